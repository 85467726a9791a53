"""From logits to label maps of frames and of people, against the original's arrays and against geometry."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lite.artifact import ArtifactSpec, CropRule
from lite.crop import crop
from lite.errors import ConfigError
from lite.label_sets import generic_label_set, load_label_set
from lite.segment import (
    YES_LOGIT,
    area_of,
    areas,
    crop_segments,
    finite,
    flip_labels,
    frame_segments,
    join_segments,
    merge_labels,
    relabel,
    stretch_frames,
)
from lite.structures import Detections, Frame, Segments


@pytest.fixture
def folder(golden: Path) -> Path:
    return golden / "sapiens" / "segmentation"


def frames(*sizes: tuple[int, int]) -> list[Frame]:
    return [Frame(pixels=np.zeros((*size, 3), np.uint8), source=f"{n}.png") for n, size in enumerate(sizes)]


def detections(boxes: list, scores: list | None = None, frame_of: list | None = None) -> Detections:
    return Detections(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array(scores if scores is not None else [0.9] * len(boxes), np.float32),
        frame_of=np.array(frame_of if frame_of is not None else [0] * len(boxes), np.int64),
    )


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("name", ["seg_tiny", "seg_tiny_pad2"])
def test_whole_frames_equal_the_original(folder: Path, name: str, as_tensor: bool) -> None:
    with np.load(folder / f"{name}.npz") as arrays:
        sizes = [tuple(arrays[f"ori_shape_{i}"].tolist()) for i in range(2)]
        logits = torch.from_numpy(arrays["logits_a"]) if as_tensor else arrays["logits_a"]
        one_step = frame_segments(logits, frames(*sizes))
        two_steps = frame_segments(logits, frames(*sizes), input_hw=(64, 48))
        for i in range(2):
            assert (one_step.labels[i] != arrays[f"pred_direct_{i}"]).mean() < 0.002
            assert (two_steps.labels[i] != arrays[f"pred_sem_seg_{i}"]).mean() < 0.002
        assert any((a != b).any() for a, b in zip(one_step.labels, two_steps.labels))
    assert one_step.boxes.tolist() == [[0, 0, w, h] for h, w in sizes]
    assert one_step.detections.tolist() == [-1, -1] and one_step.scores.tolist() == [1, 1]
    assert one_step.frame_of.tolist() == [0, 1]


def test_nothing_in_nothing_out() -> None:
    empty = frame_segments(np.zeros((0, 5, 8, 6), np.float32), [])
    assert len(empty) == 0 and areas(empty, ["a"]) == [] and finite(np.zeros((0, 5, 8, 6))).shape == (0,)
    cut = crop([], detections([]), (16, 12), CropRule())
    nobody = crop_segments(np.zeros((0, 5, 8, 6), np.float32), cut, [])
    assert len(nobody) == 0 and nobody.boxes.shape == (0, 4)
    assert not merge_labels(nobody, 0, (4, 5)).any()
    assert stretch_frames([], (16, 12)).shape == (0, 16, 12, 3)
    joined = join_segments([empty, nobody, frame_segments(np.zeros((1, 5, 8, 6), np.float32), frames((3, 4)))])
    assert len(joined) == 1 and joined.labels[0].shape == (3, 4)


def test_one_channel_is_yes_or_no() -> None:
    below, above = YES_LOGIT - 0.01, YES_LOGIT + 0.01
    labels = frame_segments(torch.tensor([[[[below, above]]]]), frames((1, 2))).labels[0]
    assert labels.tolist() == [[0, 1]]
    assert 1 / (1 + np.exp(-YES_LOGIT)) == pytest.approx(0.3)


def test_stretched_frames_equal_the_original(shared: Path) -> None:
    from lite.readers.images import read_picture

    with np.load(shared / "reference/sapiens/golden/seg_preprocess.npz") as arrays:
        photo = read_picture(shared / "reference/sapiens/golden/photos" / str(arrays["photo"]))
        w, h = arrays["size_wh"].tolist()
        pixels = stretch_frames([Frame(pixels=photo, source="x")], (h, w))
        expected = arrays["resized_bgr"][..., ::-1].astype(int)
        assert np.abs(pixels[0].astype(int) - expected).max() <= 1
        from lite.models.vit import MEAN, STD

        normalised = (pixels[0].astype(np.float32) - np.float32(MEAN)) / np.float32(STD)
        np.testing.assert_allclose(normalised.transpose(2, 0, 1), arrays["tensor"], atol=1.01 / min(STD))


@pytest.mark.parametrize("name", ["goliath", "face", "lip"])
def test_mirrored_labels_equal_the_original(folder: Path, name: str) -> None:
    with np.load(folder / "label_flips.npz") as arrays:
        labels = load_label_set({"goliath": "goliath28", "face": "face19", "lip": "lip20"}[name])
        assert [list(pair) for pair in labels.swaps] == arrays[f"swap_{name}"].tolist()
        found = flip_labels(arrays[f"label_{name}"], labels.swaps)
        np.testing.assert_array_equal(found, arrays[f"label_flipped_{name}"])
        np.testing.assert_array_equal(flip_labels(found, labels.swaps), arrays[f"label_{name}"])


def drawn(size: tuple[int, int]) -> np.ndarray:
    """A label map with slanting stripes, whose classes are told in its colours."""
    y, x = np.mgrid[: size[0], : size[1]]
    return (((x + y // 2) // 24) % 3).astype(np.uint8)


@pytest.mark.parametrize("affine", ["udp", "classic"])
@pytest.mark.parametrize("box", [[40, 30, 120, 170], [-30, -20, 60, 90], [100, 100, 260, 160]])
def test_what_a_crop_shows_goes_back_to_its_place(affine: str, box: list[float]) -> None:
    """The crop's own pixels, taken as logits of three classes, give the frame's labels."""
    truth = drawn((200, 220))
    frame = Frame(pixels=np.eye(3, dtype=np.uint8)[truth] * 255, source="x")
    rule = CropRule(affine=affine)
    crops = crop([frame], detections([box]), (256, 192), rule)
    logits = crops.pixels.astype(np.float32).transpose(0, 3, 1, 2)
    found = crop_segments(logits, crops, [frame], rule)
    (x1, y1, x2, y2), labels = found.boxes[0], found.labels[0]
    assert 0 <= x1 < x2 <= 220 and 0 <= y1 < y2 <= 200
    wrong = labels != truth[y1:y2, x1:x2]
    # A pixel wrong by half a pixel's shift would be in every row of every edge: about 1 in 24.
    assert wrong.mean() < 0.012
    width, height = (np.array(box[2:]) - box[:2]) * 1.25
    assert x2 - x1 <= np.ceil(width) + 1 and y2 - y1 <= np.ceil(height) + 1


def test_people_get_their_place_frame_and_score() -> None:
    both = frames((80, 60), (50, 50))
    found = detections([[5, 5, 25, 45], [500, 500, 510, 520], [0, 0, 50, 50]], [0.4, 0.8, 0.7], [0, 0, 1])
    crops = crop(both, found, (64, 48), CropRule())
    logits = np.zeros((3, 4, 32, 24), np.float32)
    logits[np.arange(3), [1, 2, 3]] = 1
    segments = crop_segments(logits, crops, both, first=7)
    assert segments.detections.tolist() == [7, 8, 9] and segments.frame_of.tolist() == [0, 0, 1]
    assert segments.scores.tolist() == found.scores.tolist()
    assert segments.labels[1].size == 0  # lies outside its frame
    assert (segments.labels[0] == 1).all() and (segments.labels[2] == 3).all()
    assert segments.boxes[0].tolist() == [3, 0, 28, 51] and segments.boxes[2].tolist() == [0, 0, 50, 50]
    names = ["none", "a", "b", "c"]
    assert areas(segments, names) == [{"a": 25 * 51}, {}, {"c": 2500}]


def test_the_better_detection_wins_where_both_say_something() -> None:
    maps = [np.full((3, 3), 1, np.uint8), np.full((3, 3), 2, np.uint8), np.full((3, 3), 3, np.uint8)]
    maps[1][0, 0] = 0
    segments = Segments(
        labels=(*maps, np.full((6, 6), 9, np.uint8)),
        boxes=np.array([[0, 0, 3, 3], [1, 1, 4, 4], [2, 2, 5, 5], [0, 0, 6, 6]], np.int64),
        detections=np.arange(4),
        scores=np.array([0.5, 0.9, 0.5, 0.9], np.float32),
        frame_of=np.array([0, 0, 0, 1], np.int64),
    )
    merged = merge_labels(segments, 0, (6, 6))
    assert merged.tolist() == [
        [1, 1, 1, 0, 0, 0],
        [1, 1, 2, 2, 0, 0],
        [1, 2, 2, 2, 3, 0],
        [0, 2, 2, 2, 3, 0],
        [0, 0, 3, 3, 3, 0],
        [0, 0, 0, 0, 0, 0],
    ]
    assert (merge_labels(segments, 1, (6, 6)) == 9).all() and not merge_labels(segments, 2, (2, 2)).any()


def test_areas_count_classes_that_occur() -> None:
    labels = np.array([[0, 0, 2], [2, 2, 7]], np.uint8)
    assert area_of(labels, ["none", "a", "b"]) == {"none": 2, "b": 3, "7": 1}
    assert area_of(np.tile(labels, (1500, 1500)), ["none"]) == {"none": 2 * 1500**2, "2": 3 * 1500**2, "7": 1500**2}


def test_classes_of_ones_own() -> None:
    spec = ArtifactSpec(
        task="segment", model="m", input_hw=(4, 4), mean=(0, 0, 0), std=(1, 1, 1), labels=load_label_set("lip20").names
    )
    made = relabel(spec, generic_label_set(20))
    assert made.labels[1] == "class_1" and len(made.palette) == 20
    with pytest.raises(ConfigError, match=r"m, which has 20 classes, found 28 names"):
        relabel(spec, load_label_set("goliath28"))
    with pytest.raises(ConfigError, match="the task pose"):
        relabel(replace(spec, task="pose"), generic_label_set(20))


def test_logits_that_are_no_numbers() -> None:
    logits = np.zeros((3, 2, 4, 4), np.float32)
    logits[1, 0, 0, 0], logits[2, 1, 3, 3] = np.nan, np.inf
    assert finite(logits).tolist() == [True, False, False]


def test_resizing_is_centred() -> None:
    """A border in the middle of the logits is in the middle of the picture."""
    logits = np.zeros((1, 2, 8, 6), np.float32)
    logits[0, 1, :, 3:] = 1
    logits[0, 0, :, :3] = 1
    labels = frame_segments(logits, frames((64, 48))).labels[0]
    assert labels[:, :24].max() == 0 and labels[:, 24:].min() == 1
    assert cv2.countNonZero(labels) == 64 * 24
