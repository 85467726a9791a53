"""Losses equal to the Sapiens training repository's; origin in the fact sheet, tolerance 1e-6."""

import numpy as np
import pytest
import torch

from lite.train.losses import keypoint_mse, keypoint_ohkm


@pytest.fixture
def golden_losses(golden):
    return np.load(golden / "sapiens" / "losses.npz")


def test_losses_equal_the_original(golden_losses):
    arrays = [torch.from_numpy(golden_losses[name]) for name in ("output", "target", "weights")]
    assert float(keypoint_mse(*arrays)) == pytest.approx(float(golden_losses["mse_weighted"]), abs=1e-6)
    for top in (4, 8, 17):
        expected = float(golden_losses[f"ohkm_top{top}"])
        assert float(keypoint_ohkm(*arrays, top)) == pytest.approx(expected, abs=1e-6)


def test_a_keypoint_of_weight_0_costs_nothing():
    output, target = torch.rand(2, 3, 4, 5), torch.zeros(2, 3, 4, 5)
    weights = torch.tensor([[0.0, 0, 0], [0, 1, 0]])
    assert keypoint_mse(output, target, weights) == pytest.approx(float(output[1, 1].square().sum() / output.numel()))
    assert keypoint_ohkm(output, target, weights, 1) == pytest.approx(float(output[1, 1].square().mean() / 2))
