"""Packed convolutions give the numbers of the plain ones, at any batch and layout."""

import pytest
import torch
from torch import nn

from lite.backends.cpu_convolution import PackedConvolution, pack_convolutions, pack_program, packed
from lite.backends.fold import fold_batch_norm
from lite.checkpoints import load_network
from lite.models.cspnext import ConvModule

if not torch.backends.mkldnn.is_available():
    pytest.skip("this torch has no oneDNN", allow_module_level=True)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("activation", "function"), [("none", nn.Identity()), ("relu", nn.ReLU()), ("swish", nn.SiLU())]
)
def test_equal_to_the_convolution(activation: str, function: nn.Module, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    for conv in (
        nn.Conv2d(6, 8, 3, 2, 1),
        nn.Conv2d(6, 6, 5, padding=2, groups=6, bias=False),
        nn.Conv2d(6, 4, 3, dilation=2),
    ):
        conv.requires_grad_(False)
        quick = packed(conv, activation)
        for count in (1, 3):
            x = torch.randn(count, 6, 17, 12).contiguous(memory_format=layout)
            torch.testing.assert_close(quick(x), function(conv(x)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["person-nano", "pose17-small"])
def test_the_embedded_networks(name: str) -> None:
    network = load_network(name).requires_grad_(False)
    x = torch.randn(2, 3, 64, 96)
    before = network(x)
    fold_batch_norm(network)
    assert pack_convolutions(network, {ConvModule: "swish"}) > 100
    assert not any(isinstance(module, nn.Conv2d) for module in network.modules())
    for key, value in network(x).items():
        for new, old in zip(value, before[key]):
            torch.testing.assert_close(new, old, atol=1e-3, rtol=1e-4)


def test_networks_with_few_convolutions_are_left_alone() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    assert pack_convolutions(network, {}) == 0
    assert isinstance(network[0], nn.Conv2d)


class Chain(nn.Module):
    """More than twenty convolutions, some of which are read twice."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1, bias=i % 2 == 0) for i in range(24))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i, conv in enumerate(self.convs):
            y = conv(x)
            if i % 4 == 0:
                x = y.relu_()
            elif i % 4 == 1:
                x = nn.functional.silu(y)
            else:
                x = y + y.relu() if i % 4 == 2 else y * 0.5 + x
        return x


def test_exported_programs() -> None:
    torch.manual_seed(0)
    network = Chain().eval().requires_grad_(False)
    shape = {"x": {0: torch.export.Dim("batch", max=8)}}
    program = torch.export.export(network, (torch.randn(2, 4, 8, 8),), dynamic_shapes=shape)
    module = program.module()
    assert pack_program(module) == 24
    assert "conv2d" not in module.code and "silu" not in module.code
    kinds = [part.activation for part in module.modules() if isinstance(part, PackedConvolution)]
    assert [kinds.count(kind) for kind in ("relu", "swish", "none")] == [6, 6, 12]
    for count in (1, 5):
        x = torch.randn(count, 4, 8, 8)
        torch.testing.assert_close(module(x), network(x), atol=1e-5, rtol=1e-5)
