"""Which peaks of a heatmap and which labels can be compared: those that rounding alone does not turn over.

A map with two equal peaks, or a flat one, is decoded to another place by any change in the last digit; that says
nothing about a conversion. How large a change to expect is measured: the same network, run eagerly in the mode, shows
what its rounding does to each map. A file cannot excuse itself that way, since it plays no part in it, and `NOISE`
bounds what a network can excuse.
"""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lite.segment import YES_LOGIT

# Largest change (root mean square over a map) that rounding in a mode may excuse, as a share of the largest range of
# all maps of a crop. It is also what is assumed where no eager network computes in the mode. Measured in bfloat16:
# 0.001 (pose17-small) to 0.0035 (a ViTPose-B); in float16 a tenth of that.
NOISE = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2, "int8": 2e-2}
DRAWS = 8
AHEAD = 6.0  # of two classes each rounded by its own error, three deviations apart, and more for a runtime's
MARGIN = 2.0  # a runtime rounds at other places than eager PyTorch does; its errors are other ones of like size


class Decoder(Protocol):
    """What is asked of a codec."""

    def decode(self, heatmaps: Tensor) -> tuple[Tensor, ...]: ...


def stable_peaks(codec: Decoder, heatmaps: Tensor, rounded: Tensor | None, mode: str, most_px: float) -> Tensor:
    """Which keypoints of one crop hold their place under `DRAWS` changes of the size of the mode's rounding.

    Args:
        codec: `decode(heatmaps) -> keypoints (B, K, 2) px, scores (B, K)`.
        heatmaps: (1, K, H, W) float32, of the eager float32 network.
        rounded: the same of the eager network in the mode; None where there is none.
        mode: decides the bound.
        most_px: a keypoint that a change moves further than this does not hold.

    Returns:
        (K,) bool; False too where there is no peak above 0.
    """
    keypoints, scores = codec.decode(heatmaps)
    largest = (heatmaps.amax((2, 3)) - heatmaps.amin((2, 3))).amax()
    random = torch.Generator().manual_seed(0)
    error = None if rounded is None else _bounded(rounded - heatmaps, NOISE[mode] * largest)
    holds = scores > 0
    for draw in range(DRAWS):
        change = NOISE[mode] * largest * _made_up(heatmaps, random) if error is None else _drawn(error, draw, random)
        holds &= (codec.decode(heatmaps + change)[0] - keypoints).norm(dim=2) <= most_px
    return holds[0]


def of_classes(logits: np.ndarray) -> np.ndarray:
    """Logits (N, C, h, w) with a channel for every class: a network's single one is that of yes, and no is constant."""
    return logits if logits.shape[1] > 1 else np.concatenate([np.full_like(logits, YES_LOGIT), logits], 1)


def clear_labels(logits: np.ndarray, rounded: np.ndarray | None, mode: str) -> np.ndarray:
    """Where the likeliest class is ahead of the second by more than `AHEAD` times what rounding changes.

    Args:
        logits: (N, C, h, w) float32, of the eager float32 network; C from 1.
        rounded: the same of the eager network in the mode; None where there is none.
        mode: decides the bound.

    Returns:
        (N, h, w) bool.
    """
    found = torch.from_numpy(of_classes(logits))
    best = found.topk(2, dim=1).values
    noise = NOISE[mode] * (found.amax((1, 2, 3)) - found.amin((1, 2, 3)))  # (N,)
    if rounded is not None:
        error = torch.nan_to_num(torch.from_numpy(of_classes(rounded)) - found, nan=0.0, posinf=0.0, neginf=0.0)
        noise = torch.minimum(noise, error.square().mean((1, 2, 3)).sqrt())
    return (best[:, 0] - best[:, 1] > AHEAD * noise[:, None, None]).numpy()


def _bounded(error: Tensor, most: Tensor) -> Tensor:
    """The error of each map, `MARGIN` times as large, but of no larger root mean square than `most`.

    What is not a number counts as an error at that place alone.
    """
    error = MARGIN * torch.nan_to_num(error, nan=0.0, posinf=0.0, neginf=0.0)
    size = error.square().mean((2, 3), keepdim=True).sqrt()
    return error * (most / size.clamp(min=1e-30)).clamp(max=1.0)


def _drawn(error: Tensor, draw: int, random: torch.Generator) -> Tensor:
    """The measured error added, then taken away, then shifted to other places of the map."""
    sign = 1.0 - 2.0 * (draw % 2)
    if draw < 2:
        return sign * error
    down, right = (int(torch.randint(side, (1,), generator=random)) for side in error.shape[2:])
    return sign * error.roll((down, right), (2, 3))


def _made_up(like: Tensor, random: torch.Generator) -> Tensor:
    """Noise of deviation 1, half of it from cell to cell and half shared by neighbours, as errors of tokens are."""
    fine = torch.randn(like.shape, generator=random)
    coarse = torch.randn((*like.shape[:2], *(-(-side // 4) for side in like.shape[2:])), generator=random)
    coarse = F.interpolate(coarse, size=like.shape[2:], mode="bicubic", align_corners=False)
    return (fine + coarse / coarse.std()) / 2**0.5
