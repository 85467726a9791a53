"""Pixels and a label map -> pixels with the classes' colours laid over them; changes nothing else."""

from collections.abc import Sequence

import cv2
import numpy as np

BAND_PX = 2**20  # drawn at a time: of a picture of 100 million pixels every copy is 300 MB
HIDDEN = 255  # "not judged" in label maps of others


def draw_labels(
    pixels: np.ndarray,
    labels: np.ndarray,
    palette: Sequence[tuple[int, int, int]],
    opacity: float = 0.5,
    with_background: bool = False,
) -> np.ndarray:
    """A copy of a picture with a label map over it.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        labels: (H, W) uint8; those beyond the palette are white, 255 is never drawn.
        palette: RGB of each label.
        opacity: of the colours, 0..1.
        with_background: draw class 0 too, as the original does; else the picture is seen there as it is.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    canvas = np.array(pixels, order="C")
    shown = np.ones(256, np.uint8)
    shown[HIDDEN] = 0
    shown[0] = with_background
    step = max(1, BAND_PX // max(labels.shape[1], 1))
    for start in range(0, len(labels) if labels.size else 0, step):
        band, part = np.ascontiguousarray(labels[start : start + step]), canvas[start : start + step]
        mixed = cv2.addWeighted(part, 1.0 - opacity, color_labels(band, palette), opacity, 0.0)
        cv2.copyTo(mixed, cv2.LUT(band, shown), part)
    return canvas


def color_labels(labels: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """(H, W) uint8 labels as (H, W, 3) uint8 RGB; labels beyond the palette are white."""
    table = np.full((256, 3), 255, np.uint8)
    table[: len(palette)] = np.asarray(palette, np.uint8).reshape(-1, 3)
    labels = np.ascontiguousarray(labels)
    return cv2.merge([cv2.LUT(labels, np.ascontiguousarray(table[:, n])) for n in range(3)])
