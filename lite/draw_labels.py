"""Pixels and a label map -> pixels with the classes' colours laid over them; changes nothing else."""

from collections.abc import Sequence

import cv2
import numpy as np

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
    if not labels.size:
        return pixels.copy()
    colors = color_labels(labels, palette)
    mixed = cv2.addWeighted(pixels, 1.0 - opacity, colors, opacity, 0.0)
    shown = np.ones(256, np.uint8)
    shown[HIDDEN] = 0
    shown[0] = with_background
    return cv2.copyTo(mixed, cv2.LUT(np.ascontiguousarray(labels), shown), np.ascontiguousarray(pixels).copy())


def color_labels(labels: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """(H, W) uint8 labels as (H, W, 3) uint8 RGB; labels beyond the palette are white."""
    table = np.full((256, 3), 255, np.uint8)
    table[: len(palette)] = np.asarray(palette, np.uint8).reshape(-1, 3)
    labels = np.ascontiguousarray(labels)
    return cv2.merge([cv2.LUT(labels, np.ascontiguousarray(table[:, n])) for n in range(3)])
