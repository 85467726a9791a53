"""Folding batch norm changes no number, and leaves none behind."""

from pathlib import Path

import pytest
import torch
from torch import nn

from lite.backends.fold import fold_batch_norm
from lite.checkpoints import load_network
from lite.models.rtmdet import rtmdet


def shaken(network: nn.Module) -> nn.Module:
    """Norms with statistics that matter."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return network.eval().requires_grad_(False)


def flat(outputs: dict[str, torch.Tensor | list[torch.Tensor]]) -> list[torch.Tensor]:
    return [level for value in outputs.values() for level in (value if isinstance(value, list) else [value])]


def compare(network: nn.Module, height: int, width: int) -> None:
    x = torch.randn(2, 3, height, width)
    before = flat(network(x))
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert fold_batch_norm(network) == norms > 0
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    for old, new in zip(before, flat(network(x)), strict=True):
        torch.testing.assert_close(new, old, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("size", "labels"), [("nano", "person"), ("tiny", "coco80")])  # the latter shares convolutions
def test_rtmdet(size: str, labels: str) -> None:
    compare(shaken(rtmdet(size, labels)), 64, 96)


def test_vitpose(golden: Path) -> None:
    network = load_network(golden / "vitpose/networks/classic_64x48/checkpoint.pth")
    compare(shaken(network), *network.spec.input_hw)


def test_a_transposed_convolution_and_a_lone_norm() -> None:
    network = nn.Sequential(
        nn.ConvTranspose2d(3, 4, 4, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4)
    )
    shaken(network)
    x = torch.randn(1, 3, 6, 5)
    before = network(x)
    assert fold_batch_norm(network) == 1
    torch.testing.assert_close(network(x), before, atol=1e-5, rtol=1e-5)
    assert isinstance(network[3], nn.BatchNorm2d)
