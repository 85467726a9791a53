"""Keypoints that people of one picture lack, looked for in the maps near each person's tag.

Asked for is the pixel of the enlarged maps where the heatmap less the rounded distance of tags is highest: a third of a
million pixels for each keypoint of each person. Squares of eight pixels are bounded first, by the cells they are
interpolated from, and only those are computed that can hold the highest; the answer is the same.
"""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from lite.group import Group

BLOCK = 8  # px; the strides of the maps divide it
FIRST_LOOK = 8  # blocks with the highest bounds, computed to know what others have to reach
MOST_BLOCKS = 256  # beyond these, enlarging the maps as a whole is cheaper
# What rounding can do to a bound, far more than it does; a bound may be too high, not too low.
DISTANCE_SLACK, HEAT_SLACK = 1e-3, 1e-5


@np.errstate(over="ignore")  # of squared distances; what is infinitely far is not chosen
def refine(group: Group, heatmaps: np.ndarray, tag_maps: np.ndarray, size_hw: tuple[int, int]) -> Group:
    """Fill in what people lack: the place where the heatmap less the rounded distance of tags is highest.

    Args:
        group: people of one picture.
        heatmaps: (K, h, w) float32. tag_maps: (K, E, h', w') float32. Each at 1, 1/2, 1/4 or 1/8 of `size_hw`.
        size_hw: the network's input, px, multiples of 8.

    Returns:
        New people; keypoints found here have tags 0, and none is filled in where the heatmap is not above 0. Scores of
        people stay what they were.

    Source: Cheng et al., "HigherHRNet", the published refinement.
    """
    keypoints, scores = group.keypoints.copy(), group.scores.copy()
    found = group.scores > 0
    count = np.maximum(found.sum(axis=1), 1).astype(np.float32)[:, None]
    reference = (group.tags * found[..., None]).sum(axis=1, dtype=np.float32) / count  # (P, E)
    for joint in np.flatnonzero(~found.all(axis=0)):
        people = np.flatnonzero(~found[:, joint])
        search = _Search(heatmaps[joint], tag_maps[joint], size_hw)
        for person, bounds in zip(people, search.bounds(reference[people])):
            x, y = search.highest(reference[person], bounds)
            heat = search.heat_at(np.array([y]), np.array([x]))[0]
            if heat > 0:
                keypoints[person, joint] = search.towards_higher(x, y)
                scores[person, joint] = heat
    return replace(group, keypoints=keypoints, scores=scores)


class _Search:
    """The maps of one keypoint: heatmap (h, w), tag maps (E, h', w')."""

    def __init__(self, heat: np.ndarray, tags: np.ndarray, size_hw: tuple[int, int]) -> None:
        self.heat, self.tags, self.size_hw = heat, tags, size_hw
        self.full: tuple[np.ndarray, list[np.ndarray]] | None = None

    def heat_at(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The enlarged heatmap at integer pixels."""
        return _enlarged_at(self.heat, y, x, self.size_hw)

    def bounds(self, references: np.ndarray) -> np.ndarray:
        """What no pixel of a block exceeds: (P, blocks) for references (P, E), blocks in reading order."""
        heat = _over_blocks(self.heat, self.size_hw, cv2.dilate)
        squares = np.zeros((len(references), len(heat)), np.float32)
        for tags, reference in zip(self.tags, references.T):
            low = _over_blocks(tags, self.size_hw, cv2.erode)
            high = _over_blocks(tags, self.size_hw, cv2.dilate)
            outside = np.maximum(low - reference[:, None], reference[:, None] - high)
            squares += np.square(np.maximum(outside, 0))
        nearest = np.sqrt(squares)
        return heat + np.float32(HEAT_SLACK) - np.rint(nearest * np.float32(1 - DISTANCE_SLACK) - DISTANCE_SLACK)

    def highest(self, reference: np.ndarray, bounds: np.ndarray) -> tuple[int, int]:
        """x, y of the highest pixel for a person of mean tags `reference` (E,); of equal ones the first in reading
        order."""
        first = np.argpartition(-bounds, min(FIRST_LOOK, len(bounds) - 1))[:FIRST_LOOK]
        least, _ = self._best_of(first, reference)
        blocks = np.flatnonzero(bounds >= least)
        if len(blocks) > MOST_BLOCKS:
            index = self._best_of_all(reference)
        else:
            _, index = self._best_of(blocks, reference)
        return index % self.size_hw[1], index // self.size_hw[1]

    def _best_of(self, blocks: np.ndarray, reference: np.ndarray) -> tuple[float, int]:
        """The highest value in some blocks and its pixel's position in the map read line by line."""
        width = self.size_hw[1]
        inside = np.arange(BLOCK)
        y = (blocks // (width // BLOCK) * BLOCK)[:, None, None] + inside[:, None]  # (n, 8, 1)
        x = (blocks % (width // BLOCK) * BLOCK)[:, None, None] + inside  # (n, 1, 8)
        tags = [_enlarged_at(one, y, x, self.size_hw) for one in self.tags]
        values = _values(self.heat_at(y, x), tags, reference)
        best = values.max()
        return float(best), int((y * width + x)[values == best].min())

    def _best_of_all(self, reference: np.ndarray) -> int:
        if self.full is None:
            whole = [_enlarged(values, self.size_hw) for values in (self.heat, *self.tags)]
            self.full = whole[0], whole[1:]
        return int(_values(*self.full, reference).argmax())

    def towards_higher(self, x: int, y: int) -> tuple[float, float]:
        """The middle of a pixel, a quarter pixel towards its higher neighbour in each axis."""
        height, width = self.size_hw
        ys = np.array([y, y, min(y + 1, height - 1), max(y - 1, 0)])
        xs = np.array([min(x + 1, width - 1), max(x - 1, 0), x, x])
        right, left, down, up = self.heat_at(ys, xs)
        return x + (0.75 if right > left else 0.25), y + (0.75 if down > up else 0.25)


def _values(heat: np.ndarray, tags: list[np.ndarray], reference: np.ndarray) -> np.ndarray:
    """Heatmap less the rounded distance of tags."""
    if len(tags) == 1:
        return heat - np.rint(np.abs(tags[0] - reference[0]))
    return heat - np.rint(np.sqrt(sum(np.square(one - mine) for one, mine in zip(tags, reference))))


def _enlarged_at(values: np.ndarray, y: np.ndarray, x: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """What a map (h, w), enlarged bilinearly to `size_hw`, holds at integer pixels `y`, `x`, which are broadcast."""
    if values.shape == tuple(size_hw):
        return values[y, x]
    (y0, y1, down), (x0, x1, right) = (
        _between(place, cells, pixels // cells) for place, cells, pixels in zip((y, x), values.shape, size_hw)
    )
    upper = values[y0, x0] * (1 - right) + values[y0, x1] * right
    lower = values[y1, x0] * (1 - right) + values[y1, x1] * right
    return upper * (1 - down) + lower * down


def _enlarged(values: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    if values.shape == tuple(size_hw):
        return values
    return cv2.resize(values, (size_hw[1], size_hw[0]), interpolation=cv2.INTER_LINEAR)


def _between(place: np.ndarray, cells: int, stride: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two cells each pixel lies between, and how far it is from the first, 0..1."""
    position = np.maximum((place.astype(np.float32) + np.float32(0.5)) / np.float32(stride) - np.float32(0.5), 0)
    first = position.astype(np.int64)
    return first, np.minimum(first + 1, cells - 1), position - first


def _over_blocks(values: np.ndarray, size_hw: tuple[int, int], spread: Callable[..., np.ndarray]) -> np.ndarray:
    """Highest (`cv2.dilate`) or lowest (`cv2.erode`) cell of a map that a pixel of each block is interpolated from:
    those of the block and one around it. One number a block, in reading order."""
    cells = BLOCK * values.shape[0] // size_hw[0]
    reached = spread(np.ascontiguousarray(values), np.ones((cells + 2, cells + 2), np.uint8), anchor=(1, 1))
    return reached[::cells, ::cells].ravel()
