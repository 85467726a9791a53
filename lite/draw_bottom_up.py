"""What a bottom-up network saw: its heatmaps over the picture, and the tags by which people were told apart.

Pure functions, pixels and arrays in, pixels out. Text and shapes are OpenCV's: nothing else has to be installed.
"""

import colorsys
import math
from collections.abc import Sequence

import cv2
import numpy as np

TILE_PX = 320  # longest side of one picture in a grid
LARGEST_GRID_PX = 4096  # tiles shrink so that neither side of a grid gets longer
GAP_PX = 4
DIM = 0.25  # heatmaps whose highest value is lower are drawn as dark as it is
WHITE, BLACK, GREY = (255, 255, 255), (0, 0, 0), (200, 200, 200)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_maps(
    pixels: np.ndarray,
    maps: np.ndarray,
    names: Sequence[str],
    to_frame: np.ndarray,
    input_hw: tuple[int, int],
    *,
    value_range: tuple[float, float] | None = None,
    opacity: float = 0.5,
) -> np.ndarray:
    """A grid with each map of one picture over it, in colours from dark blue (low) to red (high).

    Args:
        pixels: (H, W, 3) uint8 RGB.
        maps: (K, h, w) float32, heatmaps or one of the tag maps, at any fraction of the input.
        names: K captions.
        to_frame: (2, 3), px of the network's input -> px of the picture.
        input_hw: the network's input, px.
        value_range: what is drawn darkest and brightest. Unset, heatmaps are drawn from 0 to each one's highest value,
            but to 0.25 at least, so that the noise of an empty one stays dark. Tags have no such scale: give their own
            least and greatest value.
        opacity: of the map, 0 to 1.

    Returns:
        (h, w, 3) uint8 RGB; each tile has its map's range in the caption.
    """
    columns = math.ceil(math.sqrt(len(maps))) or 1
    rows = math.ceil(len(maps) / columns)
    longest = min(TILE_PX, LARGEST_GRID_PX // max(columns, rows, 1) - GAP_PX)
    factor = min(longest / max(pixels.shape[:2]), 1.0)
    tile_hw = tuple(max(round(side * factor), 1) for side in pixels.shape[:2])
    small = cv2.resize(pixels, tile_hw[::-1], interpolation=cv2.INTER_AREA)
    tiles = []
    for values, name in zip(maps, names, strict=True):
        low, high = value_range or (0.0, max(float(np.nan_to_num(values).max()), DIM))
        placed, inside = _placed(values, to_frame, input_hw, factor, tile_hw)
        colors = heat_colors(placed, low, high)
        share = np.where(inside[..., None], np.float32(opacity), np.float32(0))
        tile = np.rint(small * (1 - share) + colors * share).astype(np.uint8)
        tiles.append(_captioned(tile, f"{name} {low:.2g}..{high:.2g}"))
    return _grid(tiles, columns, rows, (tile_hw[0] + _caption_px(tile_hw[1]), tile_hw[1]))


def heat_colors(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """(h, w) floats as (h, w, 3) uint8 RGB: `low` and below dark blue, `high` and above dark red, NaN as `low`."""
    share = (np.nan_to_num(values, nan=low) - low) / max(high - low, 1e-12)
    levels = np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_JET), cv2.COLOR_BGR2RGB)


def draw_tags(
    tags: np.ndarray, scores: np.ndarray, names: Sequence[str], *, width: int = 640, height: int = 640
) -> np.ndarray:
    """Plots of the tags of people, one for each tag a place: tag from left to right, a line for each keypoint, a colour
    for each person.

    People who can be told apart stand in columns; where columns touch, keypoints go to the wrong person.

    Args:
        tags: (P, K, E) float32. scores: (P, K). As `lite.group` gives them: drawn are keypoints with a score above 0,
            except those without a tag of their own (all of it 0), which were filled in.
        names: K captions.
        width, height: of one plot, px.

    Returns:
        (height, E width, 3) uint8 RGB.
    """
    people, _, embeddings = tags.shape
    shown = (scores > 0) & np.isfinite(tags).all(axis=2) & tags.any(axis=2)
    colors = person_colors(people)
    plots = [_plot(tags[..., e], shown, colors, names, (height, width), f"tag {e + 1}") for e in range(embeddings)]
    return np.concatenate(plots, axis=1)


def person_colors(count: int) -> list[tuple[int, int, int]]:
    """RGB of people, neighbours in the list far apart in hue."""
    colors = []
    for n in range(count):
        rgb = colorsys.hsv_to_rgb(n * 0.618034 % 1, 0.9, (0.85, 0.6)[n // 8 % 2])
        colors.append(tuple(round(255 * level) for level in rgb))
    return colors


def _placed(
    values: np.ndarray, to_frame: np.ndarray, input_hw: tuple[int, int], factor: float, tile_hw: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """A map moved to where its pixels lie on a tile, and where on the tile the map is at all."""
    stride_x, stride_y = input_hw[1] / values.shape[1], input_hw[0] / values.shape[0]
    # Middles of cells: cell c covers the input from c * stride to (c + 1) * stride. The tile is the picture, smaller.
    cell = np.array([[stride_x, 0, stride_x / 2 - 0.5], [0, stride_y, stride_y / 2 - 0.5], [0, 0, 1]])
    tile = np.array([[factor, 0, factor / 2 - 0.5], [0, factor, factor / 2 - 0.5], [0, 0, 1]])
    matrix = (tile @ np.vstack([to_frame, [0, 0, 1]]) @ cell)[:2]
    size = tile_hw[::-1]
    placed = cv2.warpAffine(
        np.ascontiguousarray(values), matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    covered = np.ones(values.shape, np.uint8)
    inside = cv2.warpAffine(covered, matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
    return placed, inside > 0


def _caption_px(width: int) -> int:
    return max(round(width * 0.08), 12)


def _captioned(tile: np.ndarray, text: str) -> np.ndarray:
    """A tile with a line of text under it, as large as fits."""
    height, width = _caption_px(tile.shape[1]), tile.shape[1]
    line = np.full((height, width, 3), 255, np.uint8)
    _write(line, text, (2, height - height // 4), min(height / 32, 0.055 * width / max(len(text), 1)))
    return np.concatenate([tile, line])


def _write(canvas: np.ndarray, text: str, place: tuple[int, int], scale: float) -> None:
    cv2.putText(canvas, text, place, _FONT, scale, BLACK, 1, cv2.LINE_AA)


def _grid(tiles: list[np.ndarray], columns: int, rows: int, tile_hw: tuple[int, int]) -> np.ndarray:
    step_y, step_x = tile_hw[0] + GAP_PX, tile_hw[1] + GAP_PX
    canvas = np.full((max(rows * step_y - GAP_PX, 1), columns * step_x - GAP_PX, 3), 255, np.uint8)
    for n, tile in enumerate(tiles):
        y, x = n // columns * step_y, n % columns * step_x
        canvas[y : y + tile_hw[0], x : x + tile_hw[1]] = tile
    return canvas


def _plot(
    tags: np.ndarray,
    shown: np.ndarray,
    colors: list[tuple[int, int, int]],
    names: Sequence[str],
    size_hw: tuple[int, int],
    title: str,
) -> np.ndarray:
    """One plot of (P, K) tags."""
    height, width = size_hw
    joints = tags.shape[1]
    left, right, top, bottom = round(width * 0.24), round(width * 0.96), round(height * 0.06), round(height * 0.9)
    low, high = (float(tags[shown].min()), float(tags[shown].max())) if shown.any() else (0.0, 1.0)
    middle, half = (low + high) / 2, max((high - low) * 0.55, 0.5)
    canvas = np.full((height, width, 3), 255, np.uint8)
    text = height / 1400

    def across(tag: float) -> int:
        return round(left + (tag - middle + half) / (2 * half) * (right - left))

    def down(joint: int) -> int:
        return round(top + (joint + 0.5) / joints * (bottom - top))

    for joint, name in enumerate(names):
        cv2.line(canvas, (left, down(joint)), (right, down(joint)), GREY, 1)
        if joints <= 40 or joint % 10 == 0:
            _write(canvas, name, (4, down(joint) + round(8 * text)), min(text, 0.055 * left / max(len(name), 1)))
    for tag in np.linspace(middle - half, middle + half, 5):
        cv2.line(canvas, (across(tag), top), (across(tag), bottom), GREY, 1)
        _write(canvas, f"{tag:.3g}", (across(tag) - round(30 * text), bottom + round(40 * text)), text)
    _write(canvas, title, (left, top - round(12 * text)), text)
    for person, joint in zip(*np.nonzero(shown)):
        place = (across(float(tags[person, joint])), down(joint))
        cv2.circle(canvas, place, max(round(height / 110), 2), colors[person], cv2.FILLED, cv2.LINE_AA)
    cv2.rectangle(canvas, (left, top), (right, bottom), BLACK, 1)
    return canvas
