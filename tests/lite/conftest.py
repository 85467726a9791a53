"""Fake backends: they answer from the pixels they are given, so that a mixed-up order or crop shows."""

from collections.abc import Callable

import numpy as np
import pytest

from lite.artifact import ArtifactSpec, CropRule, LetterboxRule, OutputSpec

K = 17
POSE_HW = (64, 48)
CANVAS_HW = (96, 96)


class FakePose:
    """Keypoint k of a crop lies at a fixed place; its score is the brightness of the crop's middle."""

    describe = "fake-pose"

    def __init__(self, batch_range: tuple[int, int] = (1, 64)) -> None:
        self.spec = ArtifactSpec(
            task="pose",
            model="fake-pose",
            input_hw=POSE_HW,
            mean=(0, 0, 0),
            std=(1, 1, 1),
            crop=CropRule(),
            skeleton="coco17",
            batch_range=batch_range,
            outputs=(
                OutputSpec(name="keypoints", shape=("N", K, 2), dtype="float32", unit="crop px"),
                OutputSpec(name="scores", shape=("N", K), dtype="float32", unit="0..1"),
            ),
        )
        self.device = "cpu"
        self.batches: list[int] = []
        self.closed = False

    def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        assert pixels.dtype == np.uint8 and pixels.shape[1:] == (*POSE_HW, 3)
        least, most = self.spec.batch_range
        assert least <= len(pixels) <= most
        self.batches.append(len(pixels))
        steps = np.linspace(0, 1, K, dtype=np.float32)
        points = np.stack([steps * POSE_HW[1], steps * POSE_HW[0]], axis=1)
        brightness = pixels[:, POSE_HW[0] // 2, POSE_HW[1] // 2, 0].astype(np.float32) / 255
        return {
            "keypoints": np.broadcast_to(points, (len(pixels), K, 2)).copy(),
            "scores": np.repeat(brightness[:, None], K, axis=1),
        }

    def close(self) -> None:
        self.closed = True


class FakeDetector:
    """Finds as many people as the canvas's top left red value says, in a row of boxes over the canvas."""

    SLOTS = 12
    describe = "fake-detector"

    def __init__(self) -> None:
        self.spec = ArtifactSpec(
            task="detect",
            model="fake-detector",
            input_hw=CANVAS_HW,
            mean=(0, 0, 0),
            std=(1, 1, 1),
            letterbox=LetterboxRule(),
            labels=("person", "dog"),
        )
        self.device = "cpu"
        self.batches: list[int] = []
        self.closed = False

    def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        assert pixels.dtype == np.uint8 and pixels.shape[1:] == (*CANVAS_HW, 3)
        self.batches.append(len(pixels))
        n = len(pixels)
        left = np.arange(self.SLOTS, dtype=np.float32) * 8
        box = np.stack([left, left * 0 + 8, left + 7, left * 0 + 40], axis=1)
        scores = np.zeros((n, self.SLOTS), np.float32)
        for row, canvas in zip(scores, pixels):
            people = int(canvas[0, 0, 0])
            row[:people] = np.linspace(0.9, 0.5, people, dtype=np.float32)
        return {
            "boxes": np.broadcast_to(box, (n, self.SLOTS, 4)).copy(),
            "scores": scores,
            "labels": np.zeros((n, self.SLOTS), np.int64),
        }

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def fake_pose() -> FakePose:
    return FakePose()


@pytest.fixture
def make_fake_pose() -> Callable[..., FakePose]:
    return FakePose


@pytest.fixture
def fake_detector() -> FakeDetector:
    return FakeDetector()


@pytest.fixture
def picture() -> Callable[..., np.ndarray]:
    """`picture(people, h, w, brightness)`: the fake detector finds that many people in it."""

    def make(people: int = 1, h: int = 96, w: int = 96, brightness: int = 128) -> np.ndarray:
        pixels = np.full((h, w, 3), brightness, np.uint8)
        pixels[: max(h // 8, 1), : max(w // 8, 1)] = (people, 0, 0)
        return pixels

    return make
