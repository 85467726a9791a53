"""A label map over a picture: colours where classes are, the picture elsewhere."""

import numpy as np
import pytest

from lite.draw_labels import color_labels, draw_labels

PALETTE = ((50, 50, 50), (255, 0, 0), (0, 200, 100))


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 5, 3)).astype(np.uint8)


@pytest.fixture
def labels() -> np.ndarray:
    return np.array([[0, 1, 2, 9, 255]] * 6, np.uint8)


def test_half_and_half(pixels: np.ndarray, labels: np.ndarray) -> None:
    before = pixels.copy()
    drawn = draw_labels(pixels, labels, PALETTE)
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(drawn[:, [0, 4]], pixels[:, [0, 4]])  # background and what nobody judged
    colors = np.array([PALETTE[1], PALETTE[2], (255, 255, 255)], np.float64)
    assert np.abs(drawn[:, 1:4] - (pixels[:, 1:4] / 2 + colors / 2)).max() <= 1


def test_background_and_opacity(pixels: np.ndarray, labels: np.ndarray) -> None:
    drawn = draw_labels(pixels, labels, PALETTE, opacity=1.0, with_background=True)
    np.testing.assert_array_equal(drawn[:, :3], np.tile(np.array(PALETTE, np.uint8), (6, 1, 1)))
    np.testing.assert_array_equal(drawn[:, 4], pixels[:, 4])
    np.testing.assert_array_equal(draw_labels(pixels, labels, PALETTE, opacity=0.0), pixels)


def test_views_and_no_pixels(pixels: np.ndarray, labels: np.ndarray) -> None:
    turned = draw_labels(pixels[:, ::-1], labels[:, ::-1], PALETTE)
    np.testing.assert_array_equal(turned[:, ::-1], draw_labels(pixels, labels, PALETTE))
    assert draw_labels(pixels[:0], labels[:0], PALETTE).shape == (0, 5, 3)


def test_colors(labels: np.ndarray) -> None:
    assert color_labels(labels, PALETTE)[0].tolist() == [*map(list, PALETTE), [255] * 3, [255] * 3]
