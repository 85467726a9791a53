"""Chunks: any number of crops, none invented."""

import numpy as np
import pytest

from lite.forward import forward


def _crops(n):
    pixels = np.zeros((n, 64, 48, 3), np.uint8)
    pixels[:] = np.arange(n, dtype=np.uint8)[:, None, None, None]
    return pixels


@pytest.mark.parametrize(
    ("n", "chunk", "batch_range", "batches"),
    [
        (1, 8, (1, 64), [1]),
        (8, 8, (1, 64), [8]),
        (19, 8, (1, 64), [8, 8, 3]),
        (19, 8, (1, 4), [4, 4, 4, 4, 3]),
        (5, 1, (1, 64), [1] * 5),
        (5, 8, (4, 4), [4, 4]),  # a fixed batch: the tail is filled up
        (3, 1, (2, 8), [2, 2]),
    ],
)
def test_crops_run_in_chunks_and_come_back_in_order(make_fake_pose, n, chunk, batch_range, batches):
    backend = make_fake_pose(batch_range)
    raw = forward(backend, _crops(n), chunk)
    assert backend.batches == batches
    assert raw["keypoints"].shape == (n, 17, 2) and raw["scores"].shape == (n, 17)
    assert np.allclose(raw["scores"][:, 0] * 255, np.arange(n))


def test_no_crops_give_empty_outputs_without_running(fake_pose):
    raw = forward(fake_pose, _crops(0), 8)
    assert {name: (value.shape, value.dtype.name) for name, value in raw.items()} == {
        "keypoints": ((0, 17, 2), "float32"),
        "scores": ((0, 17), "float32"),
    }
    assert fake_pose.batches == []
