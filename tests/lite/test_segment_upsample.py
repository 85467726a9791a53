"""Labels at the size of the picture equal resizing every logit and taking the largest; memory stays small."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lite.segment_upsample import _by_bands, _by_tiles, largest_classes, resize_taps, taps_at, through

WAYS = {"tiles": _by_tiles, "bands": _by_bands, "chosen": largest_classes}


def logits(c: int = 6, h: int = 33, w: int = 21, seed: int = 0) -> torch.Tensor:
    """Noise, the same for neighbours in one half."""
    made = torch.randn(c, h, w, generator=torch.Generator().manual_seed(seed))
    made[:, : h // 2] = made[:, :1, :1]
    return made


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [(100, 90), (33, 21), (15, 10), (33, 300), (1, 1), (400, 5)])
def test_equals_resizing_all_logits(way: str, size: tuple[int, int]) -> None:
    made = logits()
    expected = F.interpolate(made[None], size=size, mode="bilinear", align_corners=False)[0].argmax(0)
    found = WAYS[way](made, resize_taps(size[0], 33), resize_taps(size[1], 21))
    assert found.dtype == np.uint8 and found.shape == size
    assert (found != expected.numpy()).mean() < 0.002


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("middle", "size"), [((66, 42), (150, 70)), ((66, 42), (20, 30)), ((132, 84), (132, 84))])
def test_two_resizings_as_one(way: str, middle: tuple[int, int], size: tuple[int, int]) -> None:
    made = logits()
    twice = made[None]
    for one in (middle, size):
        twice = F.interpolate(twice, size=one, mode="bilinear", align_corners=False)
    axes = [through(resize_taps(m, n), resize_taps(s, m)) for n, m, s in zip((33, 21), middle, size)]
    assert (WAYS[way](made, *axes) != twice[0].argmax(0).numpy()).mean() < 0.002
    assert all(taps.index.shape[1] <= 4 for taps in axes)
    assert all(torch.allclose(taps.weight.sum(1), torch.ones(len(taps)), atol=1e-5) for taps in axes)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("c", "h", "w"), [(1, 1, 1), (3, 1, 5), (255, 4, 1)])
def test_few_cells_and_many_classes(way: str, c: int, h: int, w: int) -> None:
    made = logits(c, h, w)
    expected = F.interpolate(made[None], size=(40, 50), mode="bilinear", align_corners=False)[0].argmax(0)
    assert (WAYS[way](made, resize_taps(40, h), resize_taps(50, w)) != expected.numpy()).mean() < 0.002


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0)])
def test_no_pixels(way: str, size: tuple[int, int]) -> None:
    assert WAYS[way](logits(), resize_taps(size[0], 33), resize_taps(size[1], 21)).shape == size


@pytest.mark.parametrize("way", WAYS)
def test_equal_logits_give_the_first_class(way: str) -> None:
    assert not WAYS[way](torch.zeros(5, 4, 4), resize_taps(70, 4), resize_taps(70, 4)).any()


def test_nothing_breaks_without_numbers() -> None:
    made = torch.full((3, 4, 4), torch.nan)
    assert largest_classes(made, resize_taps(9, 4), resize_taps(9, 4)).max() < 3


def test_positions_beyond_the_ends() -> None:
    taps = taps_at(np.array([-3.0, 0.25, 1.5, 9.0]), 3)
    dense = torch.zeros(4, 3).scatter_add_(1, taps.index, taps.weight)
    expected = [[1, 0, 0], [0.75, 0.25, 0], [0, 0.5, 0.5], [0, 0, 1]]
    torch.testing.assert_close(dense, torch.tensor(expected, dtype=torch.float32))


PROBE = """
import re, sys
import numpy as np, torch
from lite.segment_upsample import WAY, resize_taps, through
def held(name):
    return int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
torch.set_num_threads(1)
made = torch.randn(28, 64, 48)
made = torch.nn.functional.interpolate(made[None], size=(512, 384), mode="bicubic")[0]
axes = [through(resize_taps(m, n), resize_taps(s, m)) for n, m, s in zip((512, 384), (1024, 768), (2160, 3840))]
WAY(made, *[taps.part(0, 64) for taps in axes])
open("/proc/self/clear_refs", "w").write("5")
before = held("VmRSS")
found = WAY(made, *axes)
print(found.shape, held("VmHWM") - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")
@pytest.mark.parametrize("way", ["_by_tiles", "_by_bands"])
def test_a_4k_picture_with_28_classes_takes_less_than_200_mb(way: str) -> None:
    if way == "_by_bands":  # nothing but the size of a band matters there, and all of them take long on a processor
        code = PROBE.replace("WAY(made, *axes)", "WAY(made, axes[0].part(0, 200), axes[1])")
    else:
        code = PROBE
    done = subprocess.run([sys.executable, "-c", code.replace("WAY", way)], capture_output=True, text=True, check=True)
    size, peak_mb = done.stdout.rsplit(" ", 1)
    assert size.endswith("3840)") and float(peak_mb) < 200
