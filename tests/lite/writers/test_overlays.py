"""Overlay files."""

import cv2
import numpy as np

from lite.writers import write_overlay


def test_an_overlay_is_a_whole_rgb_jpeg(tmp_path):
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[..., 0] = 250
    write_overlay(tmp_path / "deep" / "a.jpg", pixels)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.jpg"]
    read = cv2.imread(str(tmp_path / "deep" / "a.jpg"))
    assert read.shape == pixels.shape and read[..., 2].min() > 240 and read[..., 0].max() < 10


def test_a_picture_wider_than_a_jpeg_can_be_is_shrunk(tmp_path):
    write_overlay(tmp_path / "a.jpg", np.zeros((4, 70000, 3), np.uint8))
    assert max(cv2.imread(str(tmp_path / "a.jpg")).shape) == 65500
