"""The course of the learning rate, and what is decayed."""

import numpy as np
import pytest
from torch import nn

from lite.train.config import OptimConfig
from lite.train.optim import build_optimizer, lr_factor, parameter_groups


def test_warm_up_and_drops_equal_the_original(golden):
    """tests/golden/sapiens/lr_pose_210e.npz: every step of the Sapiens pose recipe at 11 steps an epoch; 1e-9."""
    stored = np.load(golden / "sapiens" / "lr_pose_210e.npz")
    config = OptimConfig(lr=5e-4, warmup_steps=500, schedule="step", milestones=[170 / 210, 200 / 210], gamma=0.1)
    total = len(stored["lr"])
    found = [config.lr * lr_factor(step, total, config) for step in range(total)]
    np.testing.assert_allclose(found, stored["lr"], atol=1e-9)


def test_cosine_ends_at_its_share_and_constant_stays():
    cosine = OptimConfig(warmup_steps=10, schedule="cosine", final_lr=0.1)
    factors = [lr_factor(step, 110, cosine) for step in range(111)]
    assert factors[0] == pytest.approx(0.001)
    assert factors[10] == pytest.approx(1.0)
    assert factors[60] == pytest.approx(0.55)
    assert factors[110] == pytest.approx(0.1)
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert lr_factor(10_000, 100, OptimConfig(schedule="constant")) == 1.0


def test_biases_and_norms_are_not_decayed():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    decayed, kept = parameter_groups(network, OptimConfig(weight_decay=0.3))
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.3, 0.0)
    assert [p.ndim for p in decayed["params"]] == [4]
    assert len(kept["params"]) == 3
    network.requires_grad_(False)
    network[0].weight.requires_grad_(True)
    optimizer, schedule = build_optimizer(network, OptimConfig(lr=1.0, warmup_steps=2), 10)
    assert len(optimizer.param_groups) == 1
    assert schedule.get_last_lr() == pytest.approx([0.001])
