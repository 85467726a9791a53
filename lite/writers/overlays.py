"""Overlay pictures: the frame with people drawn on it, as JPEG."""

from pathlib import Path

import cv2
import numpy as np

from lite.writers.atomic import write_bytes

JPEG_QUALITY = 90
_JPEG_LONGEST_SIDE_PX = 65500


def write_overlay(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB as JPEG; pictures larger than a JPEG can be are shrunk to fit.

    Raises:
        ConfigError: the place cannot be written.
    """
    h, w = pixels.shape[:2]
    if max(h, w) > _JPEG_LONGEST_SIDE_PX:
        factor = _JPEG_LONGEST_SIDE_PX / max(h, w)
        pixels = cv2.resize(pixels, (max(1, int(w * factor)), max(1, int(h * factor))), interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert done, f"JPEG encoding of {w} x {h} px failed"
    write_bytes(path, data.tobytes())


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB as PNG.

    Raises:
        ConfigError: the place cannot be written.
    """
    done, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    assert done, f"PNG encoding of {pixels.shape[1]} x {pixels.shape[0]} px failed"
    write_bytes(path, data.tobytes())
