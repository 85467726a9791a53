"""Strict loading lists what does not fit."""

import pytest
import torch
from torch import nn

from lite.errors import CheckpointError
from lite.models.strict import load_strictly, shape_differences


def test_everything_that_does_not_fit_is_listed() -> None:
    network = nn.Sequential(*(nn.Linear(2, 2) for _ in range(10)))
    state = {f"{i}.weight": torch.zeros(2, 2) for i in range(1, 10)} | {"extra": torch.zeros(1)}
    state["3.weight"] = torch.zeros(3, 2)
    with pytest.raises(CheckpointError) as caught:
        load_strictly(network, state, "stack of ten layers")
    first, missing, left_over, shapes = str(caught.value).splitlines()
    assert first == "expected the 20 tensors of a stack of ten layers, found others; name the right model or file"
    assert missing.strip().startswith("11 missing: 0.weight, 0.bias, 1.bias") is True
    assert left_over.strip() == "1 left over: extra"
    assert shapes.strip() == "1 of another shape: 3.weight (expected (2, 2), found (3, 2))"


def test_only_the_first_dozen_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"20 missing: .* and 8 more"):
        load_strictly(nn.Sequential(*(nn.Linear(1, 1) for _ in range(10))), {}, "stack")


def test_tensors_are_taken_over_and_converted() -> None:
    with torch.device("meta"):
        network = nn.Linear(2, 2)
    weight = torch.randn(2, 2)
    loaded = load_strictly(network, {"weight": weight, "bias": torch.ones(2, dtype=torch.float16)}, "layer")
    assert loaded.weight.data_ptr() == weight.data_ptr() and not loaded.training
    assert loaded.bias.dtype == torch.float32


def test_differences_between_networks() -> None:
    assert shape_differences(nn.Linear(2, 2), nn.Linear(2, 2)) == []
    assert shape_differences(nn.Linear(2, 3), nn.Linear(2, 2), ignore=("bias",)) == [
        "1 of another shape: weight (expected (2, 2), found (3, 2))"
    ]
    assert shape_differences(nn.Linear(2, 2, bias=False), nn.Linear(2, 2)) == ["1 missing: bias"]
