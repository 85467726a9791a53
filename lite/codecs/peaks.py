"""Where each heatmap peaks, and the smoothed surface around that peak: what every heatmap decoder starts from.

The original decoders blur whole maps and read a few cells of the result. Here only the cells that are read are
computed, from a small square cut out around the peak: 308 keypoints at 256x192 then take milliseconds. All positions
are integers (a flat index held in float32 is wrong from 2^24 cells on), and the sums run in a fixed order that does not
depend on the batch, without matrix products, which some runtimes would round to TF32 or bfloat16.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from lite.errors import ConfigError, ModelError

Border = Literal["zero", "reflect"]

# OpenCV uses these instead of a sampled Gaussian when it is given a small kernel without a sigma.
SMALL_KERNELS = {
    1: (1.0,),
    3: (0.25, 0.5, 0.25),
    5: (0.0625, 0.25, 0.375, 0.25, 0.0625),
    7: (0.03125, 0.109375, 0.21875, 0.28125, 0.21875, 0.109375, 0.03125),
    9: (0.015625, 0.05078125, 0.1171875, 0.19921875, 0.234375, 0.19921875, 0.1171875, 0.05078125, 0.015625),
}


def gaussian_kernel(size: int) -> tuple[float, ...]:
    """`size` weights that sum to 1, as OpenCV's `GaussianBlur` takes them when it is given no sigma.

    Raises:
        ConfigError: `size` is even, not positive, or wider than any map.
    """
    if not 1 <= size <= 999 or size % 2 == 0:
        raise ConfigError(f"blur_kernel: expected an odd number of cells up to 999, found {size}")
    if size in SMALL_KERNELS:
        return SMALL_KERNELS[size]
    sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    weights = [math.exp(-((i - size // 2) ** 2) / (2 * sigma**2)) for i in range(size)]
    return tuple(weight / sum(weights) for weight in weights)


def check_maps(heatmaps: Tensor, heatmap_hw: tuple[int, int]) -> None:
    """Refuse maps of another size, which would be decoded to wrong places.

    Raises:
        ModelError: not (B, K, H, W) of this size.
    """
    if heatmaps.ndim != 4 or tuple(heatmaps.shape[2:]) != heatmap_hw:
        height, width = heatmap_hw
        found = tuple(heatmaps.shape)
        raise ModelError(f"heatmaps: expected (B, K, {height}, {width}), found {found}; check the network's input size")


def find_peaks(heatmaps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Highest cell of each map; of equal ones the first in reading order.

    Args:
        heatmaps: (B, K, H, W), any float type.

    Returns:
        column, row: (B, K) int64.
        score: (B, K) float32, the value there; 0 for a map that holds NaN or +infinity or nothing but -infinity.
    """
    row_best = heatmaps.amax(dim=3)  # (B, K, H); two steps are ten times faster than one flat argmax
    row = row_best.argmax(dim=2)
    line = heatmaps.gather(2, row[..., None, None].expand(-1, -1, 1, heatmaps.shape[3]))[:, :, 0]  # (B, K, W)
    column = line.argmax(dim=2)
    score = row_best.amax(dim=2).float()
    return column, row, torch.where(torch.isfinite(score), score, 0.0)


def blurred_window(
    heatmaps: Tensor, column: Tensor, row: Tensor, kernel: tuple[float, ...], reach: int, border: Border
) -> Tensor:
    """The blurred map in the square of `reach` cells around each peak.

    Args:
        heatmaps: (B, K, H, W). column, row: (B, K) int64, the middles of the squares.
        kernel: weights of the blur, an odd number.
        reach: cells on each side.
        border: what lies outside the map: zeros, or the map mirrored about its outermost cells (OpenCV's reflect-101).

    Returns:
        (B, K, 2 reach + 1, 2 reach + 1) float32; squares may extend beyond the map.
    """
    height, width = heatmaps.shape[2:]
    span = reach + len(kernel) // 2
    offset = torch.arange(-span, span + 1, device=heatmaps.device)
    xs, ys = column[..., None] + offset, row[..., None] + offset  # (B, K, P)
    patch = read_cells(heatmaps, _place(ys, height, border), _place(xs, width, border)).float()  # (B, K, P, P)
    if border == "zero":
        in_x, in_y = (xs >= 0) & (xs < width), (ys >= 0) & (ys < height)
        patch = torch.where(in_y[..., :, None] & in_x[..., None, :], patch, 0.0)
    side = 2 * reach + 1
    lines = sum(weight * patch[:, :, :, i : i + side] for i, weight in enumerate(kernel))
    return sum(weight * lines[:, :, i : i + side] for i, weight in enumerate(kernel))


class BlurredMaximum(nn.Module):
    """Scales cells of a blurred map so that the whole blurred map would have the maximum the map had before.

    The originals do this before they cut the map to a range and take its logarithm. The scale is at least 1 and lifts
    no cell above the score, and in the step that follows it cancels unless a cell meets the range: that takes a score
    above the range or a blurred cell near the peak below it, which is noise, a spike or a map below zero nearly
    everywhere. Only for such maps is the whole map blurred. Eagerly on the CPU that is any number of them; a traced
    graph, whose shapes are fixed, and a GPU, which would have to be waited for to know how many there are, have room
    for `ROOM` cells a person (272 maps of 64x48, 17 of 256x192) and take the maximum near the peak for the rest.

    Args:
        heatmap_hw: one map, cells.
        kernel: weights of the blur, an odd number. The border is zero.
        floor, ceiling: the range.
    """

    ROOM = 17 * 256 * 192

    def __init__(self, heatmap_hw: tuple[int, int], kernel: tuple[float, ...], floor: float, ceiling: float) -> None:
        super().__init__()
        self.floor, self.ceiling = floor, ceiling
        self.register_buffer("down", _band(heatmap_hw[0], kernel), persistent=False)
        self.register_buffer("across", _band(heatmap_hw[1], kernel), persistent=False)

    def forward(self, cells: Tensor, heatmaps: Tensor, scores: Tensor) -> Tensor:
        """Cells (B, K, n, n) of the blurred maps, scaled.

        Args:
            cells: (B, K, n, n) float32, all of them in the map.
            heatmaps: (B, K, H, W), before the blur. scores: (B, K), their maxima.
        """
        best = cells.amax(dim=(2, 3)).clamp(min=1e-30)
        unsettled = (scores > 0) & ((cells.amin(dim=(2, 3)) < self.floor) | (scores > self.ceiling))
        rows = self._rows(unsettled, self.ROOM // (heatmaps.shape[2] * heatmaps.shape[3]))
        chosen = heatmaps.flatten(0, 1).index_select(0, rows).float()
        exact = (self.down @ (chosen @ self.across)).amax(dim=(1, 2))
        exact = best.flatten().index_copy(0, rows, exact).view_as(best)
        best = torch.where(unsettled, exact, best)
        return cells * (scores / best)[..., None, None]

    @staticmethod
    def _rows(unsettled: Tensor, room: int) -> Tensor:
        """Positions of the maps to blur whole, counted through (B, K): (n,) int64."""
        traced = torch.compiler.is_compiling() or torch.jit.is_tracing() or type(unsettled) is not Tensor
        if unsettled.device.type == "cpu" and not traced:
            return unsettled.flatten().nonzero()[:, 0]
        batch, count = unsettled.shape
        _, chosen = unsettled.float().topk(min(max(room, 1), count), dim=1)
        first = torch.arange(batch, device=unsettled.device) * count
        return (first[:, None] + chosen).flatten()


def _band(size: int, kernel: tuple[float, ...]) -> Tensor:
    """(size, size) matrix that blurs a line of cells with zeros outside."""
    distance = torch.arange(size)[:, None] - torch.arange(size)[None] + len(kernel) // 2
    weights = torch.tensor(kernel)[distance.clamp(0, len(kernel) - 1)]
    return torch.where((distance >= 0) & (distance < len(kernel)), weights, 0.0)


def read_cells(maps: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Values of maps (B, K, H, W) on the grid of rows (B, K, n) and columns (B, K, m), all in the map: (B, K, n, m)."""
    index = rows[..., :, None] * maps.shape[3] + columns[..., None, :]
    return maps.flatten(2).gather(2, index.flatten(2)).reshape(index.shape)


def settle(peak: Tensor, step: Tensor, scores: Tensor, to_input: Tensor) -> Tensor:
    """The point a peak and its refinement give, in crop px, finite whatever they are.

    Args:
        peak, step: (B, K, 2) cells. scores: (B, K).
        to_input: (2,) crop px per cell.

    Returns:
        (B, K, 2) float32: the peak alone where the step is not finite, cell (-1, -1) where the score is not above 0.
    """
    point = (peak + step) * to_input
    usable = torch.isfinite(point).all(dim=-1, keepdim=True)
    point = torch.where(usable, point, peak * to_input)
    return torch.where((scores > 0)[..., None], point, -to_input)


def _place(position: Tensor, size: int, border: Border) -> Tensor:
    if border == "zero":
        return position.clamp(0, size - 1)
    folded = torch.remainder(position, 2 * size - 2)
    return torch.minimum(folded, 2 * size - 2 - folded)
