"""`hpe-lite eval` of a classifier that knows some answers: class folders, a list, bad pictures."""

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from lite.artifact import ArtifactSpec
from lite.engine import score
from lite.errors import AnnotationError, ConfigError, InputError
from lite.evaluate.config import EvalConfig
from lite.structures import Frame, Record

LABELS = ("cat", "dog", "owl", "pig", "hen", "cow")
PICTURES = {"cat/a.png": 0, "cat/b.png": 1, "dog/c.png": 1, "owl/d.png": 5}  # what the classifier says


class FakeClassifier:
    """Reads its first answer from the picture's grey level; the others follow in turn."""

    person = None

    def __init__(self) -> None:
        spec = ArtifactSpec(
            task="classify", model="fake", input_hw=(8, 8), mean=(0, 0, 0), std=(1, 1, 1), labels=LABELS
        )
        self.pose = SimpleNamespace(spec=spec)
        self.top = 0

    def __call__(self, frames: list[Frame]) -> list[Record]:
        return [Record(source=frame.source, size_hw=frame.size_hw, classes=self._classes(frame)) for frame in frames]

    def _classes(self, frame: Frame) -> list[dict]:
        first = int(frame.pixels[0, 0, 0]) // 10
        order = [(first + n) % len(LABELS) for n in range(self.top)]
        return [{"label": n, "name": LABELS[n], "score": 0.5 / (rank + 1)} for rank, n in enumerate(order)]

    def describe(self) -> list[str]:
        return ["fake"]

    def __enter__(self) -> "FakeClassifier":
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, answer in PICTURES.items():
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((9, 9, 3), 10 * answer, np.uint8))
    classifier = FakeClassifier()

    def open_fake(config: EvalConfig) -> FakeClassifier:
        classifier.top = config.top
        return classifier

    monkeypatch.setattr(score, "open_pipeline", open_fake)
    return tmp_path


def evaluate(folder: Path, status: int = 0, **settings: object) -> dict:
    settings = {"images": str(folder / "pictures"), "quiet": True} | settings
    assert score.evaluate(EvalConfig(output=str(folder / "out"), **settings)) == status
    return json.loads((folder / "out/metrics.json").read_text())


@pytest.mark.parametrize("top", [1, 5, 6])
def test_class_folders(folder: Path, top: int) -> None:
    """Cat, and dog in two; the owl is the fourth guess, and one cat is the sixth, which does not count."""
    metrics = evaluate(folder, top=top, frame_batch=3)
    assert (metrics["pictures"], metrics["failures"]) == (4, {})
    assert metrics["classes"]["top-1"] == 0.5
    assert metrics["classes"]["top-5"] == 0.75
    results = json.loads((folder / "out/results.json").read_text())
    assert [(one["image"], len(one["labels"])) for one in results] == [(name, 5) for name in PICTURES]


def test_list(folder: Path) -> None:
    (folder / "list.txt").write_text("cat/a.png 0\ncat/b.png dog\n")
    metrics = evaluate(folder, annotations=str(folder / "list.txt"))
    assert (metrics["pictures"], metrics["classes"]["top-1"]) == (2, 1.0)
    assert evaluate(folder, annotations=str(folder / "list.txt"), limit=1)["pictures"] == 1


def test_bad_pictures_count_as_wrong(folder: Path) -> None:
    (folder / "pictures/cat/a.png").write_bytes(b"no picture")
    metrics = evaluate(folder, status=1)
    assert (list(metrics["failures"]), metrics["classes"]["top-1"]) == (["cat/a.png"], 0.25)
    for name in PICTURES:
        (folder / "pictures" / name).write_bytes(b"no picture")
    with pytest.raises(InputError, match="could read none of 4"):
        evaluate(folder)


def test_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="worst"):
        evaluate(folder, worst=1)
    with pytest.raises(AnnotationError, match="folder"):
        evaluate(folder, images=str(folder / "nowhere"))


def test_table(folder: Path, capsys: pytest.CaptureFixture) -> None:
    evaluate(folder, quiet=False)
    assert "top-5" in capsys.readouterr().out
