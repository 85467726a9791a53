"""The largest class at every pixel of a picture, from logits of fewer cells, in pieces so that memory stays small.

Bilinear resizing and then the largest channel, as everybody does it, costs a 4K picture with 28 classes a gigabyte.
Here the processor goes tile by tile: a pixel is a weighted mean of cells, so a class whose largest logit in the cells
of a tile is below another's smallest cannot win there and is left out; where one class remains, nothing is computed.
Other devices go in bands of rows. Both give the labels of the usual way up to ties within rounding.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BAND_BYTES = 48 * 2**20  # of the largest intermediate array of a band
TILE_CELLS, LARGEST_TILE_PX = 16, 256  # cells on a side of a tile, as long as that is between 32 and 256 px


@dataclass(frozen=True, kw_only=True, eq=False)
class Taps:
    """What each position along one axis is a mean of: (n, T) int64 cells, ascending, and (n, T) float32 weights."""

    index: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: torch.device) -> "Taps":
        return Taps(index=self.index.to(device), weight=self.weight.to(device))

    def part(self, start: int, stop: int) -> "Taps":
        return Taps(index=self.index[start:stop], weight=self.weight[start:stop])


def taps_at(positions: np.ndarray, cells: int) -> Taps:
    """Linear interpolation at (n,) positions in cells, whose centres are at integers; beyond the ends the last cell."""
    positions = np.clip(np.asarray(positions, np.float64), 0, cells - 1)
    low = np.minimum(np.floor(positions).astype(np.int64), max(cells - 2, 0))
    index = np.stack([low, np.minimum(low + 1, cells - 1)], axis=1)
    share = (positions - low).astype(np.float32)
    return Taps(index=torch.from_numpy(index), weight=torch.from_numpy(np.stack([1 - share, share], axis=1)))


def resize_taps(size: int, cells: int) -> Taps:
    """Resizing an axis of `cells` to `size`, as `interpolate(mode="bilinear", align_corners=False)` does."""
    return taps_at((np.arange(size) + 0.5) * (cells / max(size, 1)) - 0.5, cells)


def through(first: Taps, second: Taps) -> Taps:
    """Both resizings, one after the other, as one: `second` reads what `first` gives."""
    index = first.index[second.index].flatten(1)  # (n, T * T)
    weight = (first.weight[second.index] * second.weight[:, :, None]).flatten(1)
    if not len(index):
        return Taps(index=index, weight=weight)
    low = index.amin(1, keepdim=True)
    num_taps = int((index - low).max()) + 1
    low = low.clamp(max=int(first.index.max()) + 1 - num_taps).clamp(min=0)
    merged = torch.zeros(len(index), num_taps).scatter_add_(1, index - low, weight)
    return Taps(index=low + torch.arange(num_taps), weight=merged)


def largest_classes(logits: Tensor, rows: Taps, columns: Taps) -> np.ndarray:
    """The class with the largest logit at every pixel.

    Args:
        logits: (C, h, w) float32 on any device, C up to 255.
        rows: H positions among h. columns: W positions among w.

    Returns:
        (H, W) uint8; of equal logits the first class.
    """
    rows, columns = rows.to(logits.device), columns.to(logits.device)
    by = _by_tiles if logits.device.type == "cpu" else _by_bands
    return by(logits, rows, columns)


def _by_bands(logits: Tensor, rows: Taps, columns: Taps) -> np.ndarray:
    """Every logit of every pixel, some rows of pixels at a time."""
    found = np.empty((len(rows), len(columns)), np.uint8)
    cells = logits.permute(1, 2, 0).contiguous()  # (h, w, C)
    step = max(1, BAND_BYTES // (4 * cells.shape[2] * max(len(columns), cells.shape[1], 1)))
    for start in range(0, len(rows), step):
        band = rows.part(start, start + step)
        tall = cells.new_zeros(len(band), *cells.shape[1:])  # (b, w, C)
        for index, weight in zip(band.index.T, band.weight.T):
            tall.addcmul_(cells[index], weight[:, None, None])
        wide = cells.new_zeros(len(band), len(columns), cells.shape[2])  # (b, W, C)
        for index, weight in zip(columns.index.T, columns.weight.T):
            wide.addcmul_(tall[:, index], weight[:, None])
        found[start : start + step] = wide.argmax(2).to(torch.uint8).cpu().numpy()
    return found


def _by_tiles(logits: Tensor, rows: Taps, columns: Taps) -> np.ndarray:
    """The classes that can win in each tile alone; a tile is two matrix products."""
    found = np.empty((len(rows), len(columns)), np.uint8)
    cells = logits.permute(1, 0, 2).contiguous()  # (h, C, w)
    across = [(part, *_matrix(columns, *part)) for part in _tiles(columns)]
    for y1, y2 in _tiles(rows):
        down, top, bottom = _matrix(rows, y1, y2)  # (Y, r)
        band = cells[top:bottom]
        highest, lowest = band.amax(0), band.amin(0)  # (C, w)
        for (x1, x2), over, left, right in across:
            least = lowest[:, left:right].amin(1).max()
            able = (~(highest[:, left:right].amax(1) < least)).nonzero()[:, 0]  # k classes; all where least is NaN
            if len(able) == 1:
                found[y1:y2, x1:x2] = int(able[0])
                continue
            tile = band[:, :, left:right].index_select(1, able)  # (r, k, c)
            wide = tile.flatten(0, 1) @ over.T  # (r * k, X)
            values = (down @ wide.view(len(tile), -1)).view(y2 - y1, len(able), x2 - x1)
            found[y1:y2, x1:x2] = able[_largest(values)].to(torch.uint8).numpy()
    return found


def _largest(values: Tensor) -> Tensor:
    """(Y, k, X) -> (Y, X) int64, the first k with the largest value; quicker than `argmax`, which is not vectorised."""
    best, place = values[:, 0].clone(), torch.zeros(values[:, 0].shape, dtype=torch.int64)
    for n in range(1, values.shape[1]):
        place.masked_fill_(values[:, n] > best, n)
        torch.maximum(best, values[:, n], out=best)
    return place


def _tiles(taps: Taps) -> list[tuple[int, int]]:
    """Where tiles start and stop along one axis."""
    span = int(taps.index[-1].max() - taps.index[0].min()) + 1 if len(taps) else 1
    step = min(max(TILE_CELLS * len(taps) // span, 32), LARGEST_TILE_PX)
    return [(start, min(start + step, len(taps))) for start in range(0, len(taps), step)]


def _matrix(taps: Taps, start: int, stop: int) -> tuple[Tensor, int, int]:
    """Some positions as a matrix (n, m) that acts on the cells low .. high - 1, and low and high."""
    index = taps.index[start:stop]
    low, high = int(index.min()), int(index.max()) + 1
    matrix = torch.zeros(stop - start, high - low)
    return matrix.scatter_add_(1, index - low, taps.weight[start:stop]), low, high
