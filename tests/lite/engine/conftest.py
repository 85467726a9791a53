"""Fake networks for every task: they answer from the pixels they are given, and NaN for what is white in the middle."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lite.artifact import ArtifactSpec, CropRule, FrameRule, OutputSpec
from lite.network import OUTPUTS, any_size

K, M = 17, 4
LABELS = ("background", "hair", "skin")
PALETTE = ((0, 0, 0), (255, 0, 0), (0, 255, 0))
SPECS: dict[str, dict[str, Any]] = {
    "segment": {
        "input_hw": (32, 24),
        "crop": CropRule(),
        "frame": FrameRule(kind="stretch"),
        "labels": LABELS,
        "palette": PALETTE,
    },
    "classify": {
        "input_hw": (16, 16),
        "frame": FrameRule(kind="center-crop", short_side=16),
        "labels": ("dark", "grey", "light"),
    },
    "pose-bottom-up": {
        "input_hw": (64, 64),
        "frame": FrameRule(kind="short-side", multiple=1),
        "skeleton": "coco17",
    },
}
SHAPES = {
    "segment": [("N", 3, 16, 12)],
    "classify": [("N", 3)],
    "pose-bottom-up": [("N", K, M, 2), ("N", K, M), ("N", K, M, 1), ("N", K, "h/2", "w/2"), ("N", K, 1, "h/4", "w/4")],
}


class FakeNetwork:
    """A network of a task; `batches` are the shapes it was given."""

    device = "cpu"

    def __init__(self, task: str, **changes: Any) -> None:
        outputs = [
            OutputSpec(name=name, shape=shape, dtype="float32", unit="")
            for name, shape in zip(OUTPUTS[task], SHAPES[task])
        ]
        plain = {"task": task, "model": f"fake-{task}", "mean": (0, 0, 0), "std": (1, 1, 1), "outputs": tuple(outputs)}
        self.spec = ArtifactSpec(**{**plain, **SPECS[task], **changes})
        self.describe = self.spec.model
        self.batches: list[tuple[int, ...]] = []
        self.closed = False

    def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        assert pixels.dtype == np.uint8 and len(pixels) >= 1
        assert any_size(self.spec) or pixels.shape[1:3] == self.spec.input_hw
        self.batches.append(pixels.shape[:3])
        raw = {"segment": _logits, "classify": _probabilities, "pose-bottom-up": _candidates}[self.spec.task](pixels)
        white = pixels[:, pixels.shape[1] // 2, pixels.shape[2] // 2, 0] == 255
        for values in raw.values():
            values[white] = np.nan
        return {name: values.astype(np.float32) for name, values in raw.items()}

    def close(self) -> None:
        self.closed = True


def _logits(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Class 1 where red is above 85, class 2 above 170."""
    red = pixels[:, ::2, ::2, 0].astype(np.float32)
    return {"logits": np.stack([85 - np.abs(red - level) for level in (42, 127, 212)], axis=1)}


def _probabilities(pixels: np.ndarray) -> dict[str, np.ndarray]:
    light = pixels.reshape(len(pixels), -1).mean(axis=1) / 255
    shares = np.stack([1 - light, np.full_like(light, 0.55), light], axis=1)
    return {"probabilities": shares / shares.sum(axis=1, keepdims=True)}


def _candidates(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """As many people as the first red value says, 8 px apart, all keypoints in a column."""
    n, h, w = pixels.shape[:3]
    person = np.arange(M)
    keypoints = np.zeros((n, K, M, 2))
    keypoints[..., 0], keypoints[..., 1] = 8 * person, np.arange(K)[:, None]
    there = person < pixels[:, 0, 0, :1]  # (n, M)
    scores = np.where(there, 0.9 - 0.1 * person, 0)
    return {
        "keypoints": keypoints,
        "scores": np.repeat(scores[:, None], K, axis=1),
        "tags": np.broadcast_to(10.0 * person[:, None], (n, K, M, 1)).copy(),
        "heatmaps": np.zeros((n, K, h // 2, w // 2)),
        "tag_maps": np.zeros((n, K, 1, h // 4, w // 4)),
    }


@pytest.fixture
def fake() -> Callable[..., FakeNetwork]:
    """`fake(task)`: a network of that task."""
    return FakeNetwork
