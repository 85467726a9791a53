"""`hpe-lite eval` of a segmentation network that answers with the picture's own grey levels."""

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from lite.artifact import ArtifactSpec
from lite.engine import score
from lite.errors import AnnotationError, ConfigError
from lite.evaluate.config import EvalConfig
from lite.structures import Frame, Record, Result

LABELS = ("background", "coat", "hat")


class FakeSegmenter:
    """Label of a pixel: its grey level over 10; a picture that begins with 250 gives none."""

    person = None

    def __init__(self) -> None:
        spec = ArtifactSpec(task="segment", model="fake", input_hw=(8, 8), mean=(0, 0, 0), std=(1, 1, 1), labels=LABELS)
        self.pose = SimpleNamespace(spec=spec)

    def results(self, frames: list[Frame]) -> list[Result]:
        return [self._result(frame) for frame in frames]

    def _result(self, frame: Frame) -> Result:
        if frame.pixels[0, 0, 0] == 250:
            return Result(record=Record(source=frame.source, error="not finite"))
        return Result(record=Record(source=frame.source), label_map=frame.pixels[..., 0] // 10)

    def describe(self) -> list[str]:
        return ["fake"]

    def __enter__(self) -> "FakeSegmenter":
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two pictures of 4 x 4: one right but for a quarter of its coat, one with unjudged pixels."""
    monkeypatch.setattr(score, "open_pipeline", lambda config: FakeSegmenter())
    given, truth = np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)
    truth[:2] = 1
    given[:2, :3] = 1
    write(tmp_path, "inner/a", given, truth)
    write(tmp_path, "b", np.full((4, 4), 2, np.uint8), np.full((4, 4), 255, np.uint8))
    return tmp_path


def write(folder: Path, name: str, given: np.ndarray, truth: np.ndarray) -> None:
    for kind, values in (("images", given * 10), ("labels", truth)):
        path = folder / kind / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), values)


def evaluate(folder: Path, status: int = 0, **settings: object) -> dict:
    usual = {"images": str(folder / "images"), "annotations": str(folder / "labels"), "quiet": True}
    assert score.evaluate(EvalConfig(output=str(folder / "out"), **(usual | settings))) == status
    assert not (folder / "out/results.json").exists()
    return json.loads((folder / "out/metrics.json").read_text())


@pytest.mark.parametrize("frame_batch", [1, 16])
def test_two_folders(folder: Path, frame_batch: int) -> None:
    metrics = evaluate(folder, frame_batch=frame_batch)
    assert (metrics["pictures"], metrics["failures"]) == (2, {})
    background, coat, hat = metrics["classes"]
    assert (background["IoU"], coat["IoU"], coat["Acc"], hat["Acc"]) == (80.0, 75.0, 75.0, None)
    assert metrics["labels"]["aAcc"] == 87.5
    assert evaluate(folder, limit=1)["pictures"] == 1


def test_maps_beside_pictures(folder: Path) -> None:
    (folder / "faces").mkdir()
    cv2.imwrite(str(folder / "faces/000001.png"), np.full((4, 4), 10, np.uint8))
    cv2.imwrite(str(folder / "faces/000001_seg.png"), np.full((4, 4), 1, np.uint8))
    metrics = evaluate(folder, images=str(folder / "faces"), annotations=None)
    assert metrics["labels"] == {"aAcc": 100.0, "mIoU": 100.0, "mAcc": 100.0}


def test_pictures_that_cannot_be_used(folder: Path) -> None:
    (folder / "images/b.png").write_bytes(b"no picture")
    write(folder, "c", np.full((4, 4), 25, np.uint8), np.zeros((4, 4), np.uint8))
    write(folder, "d", np.zeros((4, 4), np.uint8), np.zeros((5, 4), np.uint8))
    write(folder, "e", np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8))
    (folder / "labels/e.png").write_bytes(b"no label map")
    metrics = evaluate(folder, status=1)
    assert set(metrics["failures"]) == {"b.png", "c.png", "d.png", "e.png"}
    assert metrics["labels"]["aAcc"] == 87.5


def test_label_maps_of_other_classes(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert evaluate(folder)["pixels_of_unknown_label"] == 0
    write(folder, "c", np.zeros((4, 4), np.uint8), np.full((4, 4), 3, np.uint8))
    assert evaluate(folder, quiet=False)["pixels_of_unknown_label"] == 16
    assert "16 pixels are annotated with labels from 3 on" in capsys.readouterr().out


def test_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="worst"):
        evaluate(folder, worst=1)
    (folder / "labels/b.png").unlink()
    with pytest.raises(AnnotationError, match="label map"):
        evaluate(folder)


def test_table(folder: Path, capsys: pytest.CaptureFixture) -> None:
    evaluate(folder, quiet=False)
    printed = capsys.readouterr().out
    assert "coat" in printed
    assert "mIoU" in printed
