"""Detectors of mmdetection, with a stand-in for the library: what it is given, what comes out, when it is refused."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from lite.backends import open_backend
from lite.backends.mmdet_backend import MmdetBackend, class_names, person_label
from lite.detect import PersonDetector
from lite.errors import ConfigError, MissingExtraError, ModelError, UnsafeFileError
from lite.models.mmdet_config import describes_rtmdet
from lite.structures import Frame

CONFIG = "import os\nmodel = dict(type='FasterRCNN')\n"


class Library(ModuleType):
    """`mmdet.apis` of 3.x: everything it was called with, and one sample a picture."""

    def __init__(self) -> None:
        super().__init__("mmdet.apis")
        self.loaded: list[tuple[object, ...]] = []
        self.pictures: list[np.ndarray] = []
        self.boxes = [[10, 20, 60, 120], [12, 21, 61, 119], [100, 20, 160, 130], [0, 0, 50, 50], [0, 0, 9, 9]]
        self.scores = [0.9, 0.8, 0.95, 0.99, 0.2]
        self.labels = [1, 1, 1, 0, 1]
        self.problem: Exception | None = None

    def init_detector(self, config: str, checkpoint: str, palette: str, device: str) -> SimpleNamespace:
        if self.problem:
            raise self.problem
        self.loaded.append((config, checkpoint, palette, device))
        return SimpleNamespace(dataset_meta={"classes": ("dog", "person")})

    def inference_detector(self, model: SimpleNamespace, imgs: list[np.ndarray]) -> list[SimpleNamespace]:
        if self.problem:
            raise self.problem
        self.pictures += imgs
        instances = SimpleNamespace(
            bboxes=torch.tensor(self.boxes, dtype=torch.float32).reshape(-1, 4),
            scores=torch.tensor(self.scores, dtype=torch.float32),
            labels=torch.tensor(self.labels, dtype=torch.int64),
        )
        return [SimpleNamespace(pred_instances=instances) for _ in imgs]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    made, package = Library(), ModuleType("mmdet")
    monkeypatch.setitem(sys.modules, "mmdet", package)
    monkeypatch.setitem(sys.modules, "mmdet.apis", made)
    return made


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "faster_rcnn.py").write_text(CONFIG)
    (tmp_path / "faster_rcnn.pth").write_bytes(b"weights")
    return tmp_path / "faster_rcnn.py", tmp_path / "faster_rcnn.pth"


Open = Callable[..., MmdetBackend]


@pytest.fixture
def opened(files: tuple[Path, Path]) -> Open:
    def make(**options: object) -> MmdetBackend:
        return open_backend(files[1], config=files[0], device="cpu", **{"trust": True} | options)

    return make


def frame(h: int, w: int) -> Frame:
    pixels = np.zeros((h, w, 3), np.uint8)
    pixels[..., 0] = 200  # red
    return Frame(pixels=pixels, source="a")


def test_pictures_arrive_whole_and_in_bgr(library: Library, opened: Open, files: tuple[Path, Path]) -> None:
    backend = opened()
    assert library.loaded == [(str(files[0]), str(files[1]), "none", "cpu")]
    assert backend.spec.task == "detect" and backend.spec.labels == ("dog", "person")
    assert backend.spec.person_label == 1 and "faster_rcnn.pth" in backend.describe
    PersonDetector(backend)([frame(100, 200), frame(333, 40)])
    assert [picture.shape for picture in library.pictures] == [(100, 200, 3), (333, 40, 3)]
    assert (library.pictures[0][..., 2] == 200).all() and (library.pictures[0][..., :2] == 0).all()


@pytest.mark.parametrize("count", [0, 1, 10])
def test_people_are_chosen_as_with_any_detector(library: Library, opened: Open, count: int) -> None:
    found = PersonDetector(opened())([frame(110, 150) for _ in range(count)])
    assert len(found) == 2 * count
    if count:  # best first, the dog, the double and the unsure one left out, boxes within the picture
        np.testing.assert_array_equal(found.boxes[:2], [[100, 20, 150, 110], [10, 20, 60, 110]])
        np.testing.assert_allclose(found.scores[:2], [0.95, 0.9])
    one = PersonDetector(opened(), max_people=1)([frame(110, 150)] * count)
    assert len(one) == count


def test_nobody(library: Library, opened: Open) -> None:
    library.boxes, library.scores, library.labels = [], [], []
    assert len(PersonDetector(opened())([frame(64, 64)])) == 0
    raw = opened().run(np.zeros((2, 64, 64, 3), np.uint8))
    assert raw["boxes"].shape == (2, 0, 4)


def test_run_gives_batches(library: Library, opened: Open) -> None:
    raw = opened().run(np.zeros((3, 64, 64, 3), np.uint8))
    assert raw["boxes"].shape == (3, 5, 4) and raw["scores"].shape == raw["labels"].shape == (3, 5)
    assert opened().run(np.zeros((0, 64, 64, 3), np.uint8))["boxes"].shape == (0, 0, 4)


def test_in_the_pipeline(library: Library, files: tuple[Path, Path]) -> None:
    from lite.engine.pipeline import Pipeline

    with Pipeline(detector=files[1], det_config=files[0], device="cpu", trust=True) as pipeline:
        record, nobody = pipeline([frame(200, 300), frame(3, 3)])
        assert any("faster_rcnn" in line for line in pipeline.describe())
    assert [person["bbox"] for person in record.people] == [[[100, 20, 160, 130]], [[10, 20, 60, 120]]]
    assert all(len(person["keypoints"]) == 17 for person in record.people) and nobody.people == []


def test_it_runs_code_so_it_must_be_trusted(library: Library, opened: Open) -> None:
    with pytest.raises(UnsafeFileError, match=r"runs this configuration as Python code.*--trust"):
        opened(trust=False)
    assert library.loaded == []


def test_without_mmdetection(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ModuleType:
        raise ModuleNotFoundError("No module named 'mmdet'", name="mmdet")

    monkeypatch.setattr("lite.backends.mmdet_backend.import_module", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'hpe-lite\[mmdet\]'"):
        opened()


@pytest.mark.parametrize(
    "problem",
    [
        ModuleNotFoundError("No module named 'mmcv._ext'", name="mmcv._ext"),
        AssertionError("MMCV==2.2.0 is used but incompatible"),
    ],
)
def test_mmdetection_that_does_not_import(opened: Open, problem: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> ModuleType:
        raise problem

    monkeypatch.setattr("lite.backends.mmdet_backend.import_module", broken)
    with pytest.raises(ModelError, match=r"cannot be imported \(.*docs/mmdet.md"):
        opened()


def test_what_mmdetection_raises_is_one_sentence(library: Library, opened: Open) -> None:
    backend = opened()
    library.problem = RuntimeError("shapes do not fit\nat length")
    with pytest.raises(ModelError, match=r"failed while running it \(shapes do not fit\)"):
        backend.find([np.zeros((8, 8, 3), np.uint8)])
    with pytest.raises(ModelError, match=r"cannot load .* with it"):
        opened()


def test_missing_files(library: Library, files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="det_checkpoint: expected a file"):
        open_backend(tmp_path / "no.pth", config=files[0], trust=True)
    with pytest.raises(ConfigError, match="cannot read it"):
        open_backend(files[1], config=tmp_path / "no.py", trust=True)


def test_class_names_and_the_person() -> None:
    assert class_names(SimpleNamespace(dataset_meta={"CLASSES": ["a", "b"]})) == ("a", "b")
    assert class_names(SimpleNamespace(dataset_meta=None)) == ("person",)
    assert class_names(SimpleNamespace(dataset_meta={"classes": "face"})) == ("face",)
    assert person_label(("face",), Path("x")) == 0
    assert person_label(("Car", "Pedestrian"), Path("x")) == 1
    with pytest.raises(ModelError, match="a class person, found cat, dog"):
        person_label(("cat", "dog"), Path("x.py"))


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("model = dict(type='RTMDet')", True),
        ("model = dict(type='mmdet.RTMDet')", True),
        ("_base_ = 'mmdet::rtmdet/rtmdet_m_8xb32-300e_coco.py'", True),
        ("model = dict(type='FasterRCNN')", False),
        ("_base_ = ['../_base_/models/faster-rcnn_r50_fpn.py']", False),
        (CONFIG, False),
        ("", False),
    ],
)
def test_which_configurations_are_built_in(text: str, ours: bool, tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text(text)
    assert describes_rtmdet(tmp_path / "x.py") is ours


def test_an_rtmdet_that_is_not_plain_says_why(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("import os\nmodel = dict(type='RTMDet')")
    with pytest.raises(ConfigError, match=r"plain values|import"):
        describes_rtmdet(tmp_path / "x.py")
