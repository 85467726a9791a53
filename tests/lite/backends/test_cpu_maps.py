"""Heatmaps turned round are the same heatmaps, and both torch backends turn them round."""

import pytest
import torch
from torch import nn

from lite.backends import cpu_maps
from lite.backends.cpu_maps import PlanarMaps, planar, planar_program
from lite.codecs import build_codec


@pytest.mark.parametrize("shape", [(1, 5, 64, 48), (3, 17, 7, 5), (2, 1, 40, 60), (1, 308, 65, 33)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_maps(shape, dtype) -> None:
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert planar(maps) is maps
    turned = planar(maps.to(memory_format=torch.channels_last))
    assert turned.is_contiguous()
    assert torch.equal(turned, maps)
    sliced = maps[:, :, ::2]
    assert torch.equal(planar(sliced), sliced)
    assert planar(sliced).is_contiguous()


def test_in_a_program(monkeypatch) -> None:
    codec = build_codec({"name": "udp_heatmap", "input_hw": [64, 48], "heatmap_hw": [16, 12]})

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 6, 4, stride=4)
            self.codec = codec

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.codec.decode(self.conv(x))

    small = Small().eval().requires_grad_(False)
    x = torch.randn(3, 3, 64, 48, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    batch = torch.export.Dim("batch", min=1, max=8)
    program = torch.export.export(small, (x,), dynamic_shapes={"x": {0: batch}}).module()
    program.to(memory_format=torch.channels_last)
    expected = program(x)
    seen = []
    monkeypatch.setattr(cpu_maps, "planar", lambda maps: seen.append(maps.shape) or planar(maps))
    assert planar_program(program) == 1
    for found, wanted in zip(program(x), expected, strict=True):
        assert torch.equal(found, wanted)
    assert seen == [(3, 6, 16, 12)]


def test_around_a_network() -> None:
    network = nn.Module()
    numbers = torch.ones(2, 3)
    network.forward = lambda x: {"heatmaps": x, "tags": x, "other": numbers}
    x = torch.randn(2, 3, 8, 6).to(memory_format=torch.channels_last)
    raw = PlanarMaps(network)(x)
    assert torch.equal(raw["heatmaps"], x) and raw["heatmaps"].is_contiguous()
    assert torch.equal(raw["tags"], x) and raw["tags"].is_contiguous()
    assert raw["other"] is numbers
