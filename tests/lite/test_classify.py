"""Frames to a classifier's pixels, probabilities to classes. Arrays: tests/golden/hrnet/README.md."""

import numpy as np
import pytest

from lite.artifact import ArtifactSpec, FrameRule
from lite.classify import assemble_classes, fit_frames, short_side_hw
from lite.errors import ConfigError
from lite.structures import Frame

MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def spec(input_hw, short_side=256, kind="center-crop") -> ArtifactSpec:
    rule = FrameRule(kind=kind, short_side=short_side)
    return ArtifactSpec(task="classify", model="x", input_hw=input_hw, mean=(0, 0, 0), std=(1, 1, 1), frame=rule)


def frame(h: int, w: int, pixels: np.ndarray | None = None) -> Frame:
    if pixels is None:
        columns = np.broadcast_to(np.linspace(0, 255, w)[None, :], (h, w))
        pixels = np.repeat(columns[:, :, None], 3, axis=2).astype(np.uint8)
    return Frame(pixels=pixels, source="x")


@pytest.mark.parametrize("case", ["120x200", "210x130"])
@pytest.mark.parametrize("part", ["inference", "val"])
def test_pixels_are_those_of_the_original(golden, case, part):
    arrays = np.load(golden / "hrnet" / "classification_preprocess.npz")
    size = int(arrays[f"{case}/input_size"])
    short_side = size if part == "inference" else int(size / 0.875)
    pixels, frame_of = fit_frames([frame(0, 0, arrays[f"{case}/image"])], spec((size, size), short_side))
    assert pixels.shape == (1, size, size, 3) and pixels.dtype == np.uint8 and frame_of.tolist() == [0]
    normalised = (pixels[0].astype(np.float32) / 255 - MEAN) / STD
    expected = arrays[f"{case}/{part}_tensor"].reshape(3, size, size).transpose(1, 2, 0)
    assert np.abs(normalised - expected).max() < 2e-2
    assert np.abs(normalised - expected).mean() < 6e-3


def test_no_frames_and_frames_of_mixed_sizes():
    pixels, frame_of = fit_frames([], spec((64, 64)))
    assert pixels.shape == (0, 64, 64, 3) and frame_of.shape == (0,)
    frames = [frame(100, 300), frame(80, 80), frame(300, 100), frame(1, 1)]
    pixels, frame_of = fit_frames(frames, spec((64, 64), 73))
    assert pixels.shape == (4, 64, 64, 3) and frame_of.tolist() == [0, 1, 2, 3]
    for one, alone in zip(frames, pixels):
        assert np.array_equal(fit_frames([one], spec((64, 64), 73))[0][0], alone)


def test_the_middle_is_shown():
    pixels, _ = fit_frames([frame(100, 200)], spec((100, 100), 100))
    assert abs(int(pixels[0, 50, 0, 0]) - 64) <= 2 and abs(int(pixels[0, 50, 99, 0]) - 191) <= 2


def test_a_panorama_shows_its_middle_and_costs_little():
    pixels, _ = fit_frames([frame(4, 30000)], spec((64, 64), 73))
    assert np.abs(pixels.astype(int) - 127).max() <= 2


def test_what_a_resized_frame_does_not_fill_is_black():
    pixels, _ = fit_frames([frame(0, 0, np.full((50, 50, 3), 200, np.uint8))], spec((64, 128), 64))
    assert (pixels[0, :, 32:96] == 200).all()
    assert not pixels[0, :, :32].any() and not pixels[0, :, 96:].any()


def test_stretch_shows_the_whole_frame():
    pixels, _ = fit_frames([frame(100, 200)], spec((64, 64), kind="stretch"))
    assert pixels[0, 30, 0, 0] < 6 and pixels[0, 30, 63, 0] > 249


def test_another_rule_is_refused():
    with pytest.raises(ConfigError, match="found short-side; use a classification network"):
        fit_frames([], spec((64, 64), kind="short-side"))


def test_sizes_round_down_the_long_side():
    assert short_side_hw((120, 200), 64) == (64, 106)
    assert short_side_hw((210, 130), 96) == (155, 96)
    assert short_side_hw((50, 50), 256) == (256, 256)


def test_classes_of_no_one_and_many_frames():
    none = assemble_classes({"probabilities": np.zeros((0, 7), np.float32)}, np.zeros(0, np.int64))
    assert len(none) == 0 and none.labels.shape == (0, 5)
    scores = np.float32([[0.1, 0.4, 0.1, 0.4], [0.7, 0.1, 0.2, 0.0]])
    found = assemble_classes({"probabilities": scores}, np.int64([2, 5]), top=3)
    assert found.labels.tolist() == [[1, 3, 0], [0, 2, 1]]  # of equal ones the lower first
    assert np.array_equal(found.scores, np.float32([[0.4, 0.4, 0.1], [0.7, 0.2, 0.1]]))
    assert found.frame_of.tolist() == [2, 5]
    one = assemble_classes({"probabilities": scores[:1]}, np.int64([0]), top=10)
    assert one.labels.shape == (1, 4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_probabilities_that_are_not_finite_leave_no_class(value):
    probabilities = np.float32([[0.2, 0.8, 0.0], [0.2, 0.8, value], [0.6, 0.1, 0.3]])
    classes = assemble_classes({"probabilities": probabilities}, np.arange(3), top=1)
    assert np.isfinite(classes.scores).tolist() == [[True], [False], [True]]
    assert classes.labels[[0, 2], 0].tolist() == [1, 0]
