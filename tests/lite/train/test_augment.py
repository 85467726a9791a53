"""Random changes stay within their bounds, keep shapes, and repeat with the same generator."""

import numpy as np
import pytest

from lite.skeletons import load_skeleton
from lite.train.augment import change_pixels, cover, half_body_box, random_crop_box, soften
from lite.train.config import AugmentConfig

SKELETON = load_skeleton("coco17")


def person():
    """17 points of a standing person, 100 px tall; head at the top."""
    y = [5, 3, 3, 4, 4, 20, 20, 35, 35, 48, 48, 50, 50, 75, 75, 98, 98]
    x = [20, 22, 18, 25, 15, 30, 10, 33, 7, 34, 6, 27, 13, 27, 13, 27, 13]
    return np.stack([x, y], 1).astype(np.float32)


def test_half_body_holds_one_half():
    points, visible = person(), np.ones(17, bool)
    rng = np.random.default_rng(0)
    boxes = [half_body_box(points, visible, SKELETON, 1.25, rng) for _ in range(40)]
    upper = [box for box in boxes if box[1] < 20]
    assert 20 < len(upper) < 38  # seven of ten
    for half, some in ((SKELETON.upper_body, upper[0]), (SKELETON.lower_body, next(b for b in boxes if b[1] >= 20))):
        center, size = (some[:2] + some[2:]) / 2, (some[2:] - some[:2]) * 1.25
        chosen = points[list(half)]
        np.testing.assert_allclose(size, (chosen.max(0) - chosen.min(0)) * 1.5, rtol=1e-5)
        np.testing.assert_allclose(center, chosen.mean(0), rtol=1e-5)


def test_half_body_needs_enough_points():
    visible = np.zeros(17, bool)
    assert half_body_box(person(), visible, SKELETON, 1.25, np.random.default_rng(0)) is None
    visible[:8] = True
    assert half_body_box(person(), visible, SKELETON, 1.25, np.random.default_rng(0)) is not None


def test_crop_boxes_stay_in_bounds_and_repeat():
    config = AugmentConfig(scale=(0.5, 1.5), rotation_deg=30, rotation_prob=1.0, shift=0.2, shift_prob=1.0)
    center, scale = np.array([10.0, 20.0]), np.array([30.0, 40.0])
    draws = [random_crop_box(center, scale, config, np.random.default_rng(i)) for i in range(200)]
    factors = np.array([s[0] / 30 for _, s, _ in draws])
    turns = np.array([r for _, _, r in draws])
    shifts = np.array([(c - center) / scale for c, _, _ in draws])
    assert factors.min() >= 0.5 and factors.max() <= 1.5 and factors.std() > 0.1
    assert np.abs(turns).max() <= 30 and turns.std() > 8
    assert np.abs(shifts).max() <= 0.2 and shifts.std() > 0.05
    again = random_crop_box(center, scale, config, np.random.default_rng(3))
    assert again[2] == draws[3][2]
    still = AugmentConfig(scale=(1.0, 1.0), rotation_prob=0.0, shift_prob=0.0)
    same = random_crop_box(center, scale, still, np.random.default_rng(0))
    assert np.array_equal(same[0], center) and np.array_equal(same[1], scale) and same[2] == 0


@pytest.mark.parametrize("change", [soften, cover, lambda p, r: change_pixels(p, AugmentConfig(colour=1.0), r)])
def test_pixels_keep_shape_and_type(change):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    before = pixels.copy()
    changed = [change(pixels, np.random.default_rng(i)) for i in range(10)]
    assert all(c.shape == pixels.shape and c.dtype == np.uint8 for c in changed)
    assert any(not np.array_equal(c, pixels) for c in changed)
    assert np.array_equal(pixels, before)


def test_nothing_changes_when_nothing_is_asked():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    off = AugmentConfig(colour=0.0, blur_prob=0.0, cover_prob=0.0)
    assert all(np.array_equal(change_pixels(pixels, off, np.random.default_rng(i)), pixels) for i in range(10))
