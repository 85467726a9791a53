"""Crops: equal to the original's, and the way back."""

import cv2
import numpy as np
import pytest

from lite.artifact import CropRule
from lite.crop import crop
from lite.geometry import transform_points
from lite.structures import Detections, Frame


def _detections(boxes, frame_of=None):
    boxes = np.float32(boxes).reshape(-1, 4)
    n = len(boxes)
    return Detections(
        boxes=boxes,
        scores=np.ones(n, np.float32),
        frame_of=np.zeros(n, np.int64) if frame_of is None else np.int64(frame_of),
    )


def _expect_the_originals(arrays, folder, cases):
    """Sapiens `topdown_affine.npz` (mmpose TopdownAffine, UDP): 1 grey level, up to 4 across OpenCV versions."""
    for n in cases:
        photo, input_wh, center, scale = (arrays[f"{key}_{n}"] for key in ("photo", "input_size", "center", "scale"))
        frame = Frame(pixels=np.ascontiguousarray(cv2.imread(str(folder / str(photo)))[..., ::-1]), source=str(photo))
        input_hw = tuple(int(side) for side in input_wh[::-1])
        crops = crop([frame], _detections(arrays[f"bbox_{n}"]), input_hw, CropRule())
        difference = np.abs(crops.pixels[0].astype(int) - arrays[f"crop_{n}"][..., ::-1])
        assert difference.max() <= 4 and difference.mean() < 0.1
        points = np.float32([[0, 0], input_wh, [10, 20]])
        expected = points / input_wh * scale + center - scale / 2
        assert np.abs(transform_points(points, crops.to_frame[0]) - expected).max() < 1e-3


def test_crops_of_a_drawing_equal_the_originals(golden):
    folder = golden / "sapiens"
    _expect_the_originals(np.load(folder / "topdown_affine.npz"), folder, range(5, 10))


def test_crops_of_a_photograph_equal_the_originals(shared):
    folder = shared / "reference" / "sapiens" / "golden"
    _expect_the_originals(np.load(folder / "topdown_affine.npz"), folder / "photos", range(5))


def _gradient(h=200, w=300):
    y, x = np.mgrid[:h, :w]
    return np.stack([x * 255 / w, y * 255 / h, x * 0], axis=2).astype(np.uint8)


@pytest.mark.parametrize("affine", ["udp", "classic"])
def test_the_middle_of_a_box_is_the_middle_of_its_crop(affine):
    frame = Frame(pixels=_gradient(), source="a")
    crops = crop([frame], _detections([100, 50, 160, 130]), (64, 48), CropRule(affine=affine))
    assert np.abs(crops.pixels[0, 32, 24].astype(int) - frame.pixels[90, 130]).max() <= 3
    assert transform_points(np.float32([[24, 32]]), crops.to_frame[0]) == pytest.approx(np.float32([[130, 90]]))


def test_outside_the_frame_is_black():
    frame = Frame(pixels=np.full((40, 40, 3), 255, np.uint8), source="a")
    crops = crop([frame], _detections([[-40, -40, 40, 40], [500, 500, 600, 600]]), (32, 32), CropRule(padding=1.0))
    assert (crops.pixels[0, :14] == 0).all() and (crops.pixels[0, 18:30, 18:30] == 255).all()
    assert (crops.pixels[1] == 0).all()


def test_every_crop_comes_from_its_own_frame():
    frames = [Frame(pixels=np.full((50 + n, 60, 3), 10 * n, np.uint8), source=str(n)) for n in range(4)]
    crops = crop(frames, _detections([[10, 10, 30, 40]] * 5, [0, 1, 1, 3, 3]), (16, 12), CropRule(padding=1.0))
    assert crops.pixels[:, 8, 6, 0].tolist() == [0, 10, 10, 30, 30]


def test_nobody():
    crops = crop([], _detections([]), (64, 48), CropRule())
    assert crops.pixels.shape == (0, 64, 48, 3) and crops.to_frame.shape == (0, 2, 3)


def test_frames_longer_than_a_warp_can_take_are_cut_first():
    """OpenCV refuses sources with a side above 32767 px; the cut must not move anything."""
    long = np.zeros((40, 40000, 3), np.uint8)
    long[:, 35000:] = np.tile(np.arange(0, 250, 5, dtype=np.uint8)[:, None], (100, 3))[:5000]
    short = np.ascontiguousarray(long[:, 34000:])
    from_long = crop([Frame(pixels=long, source="a")], _detections([35010, 5, 35040, 35]), (64, 48), CropRule())
    from_short = crop([Frame(pixels=short, source="a")], _detections([1010, 5, 1040, 35]), (64, 48), CropRule())
    assert np.abs(from_long.pixels.astype(int) - from_short.pixels).max() <= 1


def test_a_box_longer_than_a_warp_can_take():
    tall = Frame(pixels=np.full((40000, 800, 3), 200, np.uint8), source="a")
    crops = crop([tall], _detections([0, 0, 800, 40000]), (64, 48), CropRule())
    assert crops.pixels[0, 8:56, 23:25].any(axis=(1, 2)).all() and not crops.pixels[0, :, :20].any()


def test_squares_fill_the_input_by_the_udp_rule():
    """As MPII networks were trained: 1.25 times the longer side both ways, whatever the input's aspect."""
    ramp = np.zeros((200, 200, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(200), np.arange(200)[:, None]  # red is x, green is y
    frame = Frame(pixels=ramp, source="a")
    for box in ([80, 60, 120, 140], [60, 60, 140, 140], [60, 80, 140, 120]):
        crops = crop([frame], _detections(box), (64, 48), CropRule(square=True))
        corners = crops.pixels[0][[0, 0, -1, -1], [0, -1, 0, -1], :2].tolist()
        assert corners == [[50, 50], [150, 50], [50, 150], [150, 150]]
        np.testing.assert_allclose(
            transform_points(np.float32([[0, 0], [48, 64]]), crops.to_frame[0]), [[50, 50], [150, 150]], atol=1e-4
        )


def test_the_classic_rule_has_no_squares():
    frame = Frame(pixels=np.zeros((200, 200, 3), np.uint8), source="a")
    rules = (CropRule(square=square, affine="classic") for square in (True, False))
    square, usual = (crop([frame], _detections([80, 60, 120, 140]), (64, 48), rule) for rule in rules)
    np.testing.assert_array_equal(square.to_frame, usual.to_frame)
