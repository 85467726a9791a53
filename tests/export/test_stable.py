"""Which peaks count: clear ones do, whatever the rounding claims to be; peaks that rounding turns over do not."""

import pytest
import torch
from torch import Tensor

from export.limits import LIMITS
from export.stable import NOISE, stable_peaks
from lite.codecs.udp_heatmap import UDPHeatmap

CODEC = UDPHeatmap(input_hw=(128, 96), heatmap_hw=(32, 24))
MODES = sorted(NOISE)


def bump(*peaks: tuple[int, int, float]) -> Tensor:
    """(1, 1, 32, 24): Gaussians at cells (column, row), of a height."""
    maps = []
    for column, row, height in peaks:
        point = torch.tensor([[[column * 95 / 23, row * 127 / 31]]])
        maps.append(height * CODEC.encode(point, torch.ones(1, 1))[0])
    return torch.stack(maps).amax(0)


def stable(heatmaps: Tensor, rounded: Tensor | None = None, mode: str = "bfloat16") -> list[bool]:
    return stable_peaks(CODEC, heatmaps, rounded, mode, LIMITS["pose"][mode]["shift_p95_px"]).tolist()


CLEAR = bump((10, 12, 0.9), (19, 24, 0.3))
TWINS = bump((10, 12, 0.9), (19, 24, 0.9 - 1e-7))


@pytest.mark.parametrize("mode", MODES)
def test_a_clear_peak_holds_and_twins_do_not(mode: str) -> None:
    assert stable(CLEAR, mode=mode) == [True]
    assert stable(TWINS, mode=mode) == [False]
    assert stable(torch.zeros(1, 1, 32, 24), mode=mode) == [False]


def test_measured_rounding_decides() -> None:
    near = bump((10, 12, 0.9), (19, 24, 0.89))
    assert stable(near, near * 1.0001) == [True]
    assert stable(near, near + bump((19, 24, 0.02))) == [False]
    both = torch.cat([CLEAR, near], 1)
    assert stable(both, both + bump((19, 24, 0.02))) == [True, False]


@pytest.mark.parametrize("wild", [5.0, float("nan"), float("inf")])
def test_a_wild_network_excuses_nothing_clear(wild: float) -> None:
    assert stable(CLEAR, CLEAR + wild * bump((3, 3, 1.0))) == [True]
    assert stable(CLEAR, torch.full_like(CLEAR, wild)) == [True]


def test_the_same_on_every_call() -> None:
    torch.manual_seed(1)
    heatmaps = torch.rand(1, 40, 32, 24) * 0.02 + torch.rand(1, 40, 1, 1) * CLEAR
    first = stable(heatmaps)
    assert first == stable(heatmaps) and {True, False} == set(first)
