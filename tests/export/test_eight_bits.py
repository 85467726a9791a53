"""8-bit rounding on the way: real while it lasts, gone afterwards."""

import pytest
import torch
from torch import nn

from export.eight_bits import eight_bits


def test_weights_and_inputs_are_rounded_inside_only() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.ConvTranspose2d(8, 4, 2), nn.Flatten(), nn.Linear(400, 5)
    ).requires_grad_(False)
    x = torch.randn(2, 3, 13, 13)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    exact = network(x)
    with eight_bits(network):
        rounded = network(x)
    error = ((rounded - exact).norm() / exact.norm()).item()
    assert 0.002 < error < 0.05
    assert torch.equal(network(x), exact)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_a_layer_with_256_levels_stays_as_it_is() -> None:
    layer = nn.Linear(3, 2).requires_grad_(False)
    layer.weight.copy_(torch.tensor([[127.0, -3.0, 5.0], [1.0, 0.0, 127.0]]))
    with eight_bits(layer):
        assert torch.equal(layer(torch.tensor([[127.0, 1.0, 2.0]])) - layer.bias, torch.tensor([[16136.0, 381.0]]))


def test_a_failure_inside_leaves_the_weights() -> None:
    layer = nn.Linear(3, 2).requires_grad_(False)
    before = layer.weight.clone()
    with pytest.raises(RuntimeError), eight_bits(layer):
        layer(torch.zeros(1, 4))
    assert torch.equal(layer.weight, before)
