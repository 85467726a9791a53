"""Detections from letterboxed frames: who counts, in which order, and where the boxes land."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from lite.artifact import ArtifactSpec, LetterboxRule
from lite.detect import GivenBoxes, PersonDetector, WholeFrame, letterbox
from lite.structures import Frame


def _frame(h, w, source="a"):
    return Frame(pixels=np.full((h, w, 3), 200, np.uint8), source=source)


class Scripted:
    """Answers every canvas with the same candidates."""

    def __init__(self, boxes, scores, labels=None, batch_range=(1, 64)):
        self.spec = ArtifactSpec(
            task="detect",
            model="scripted",
            input_hw=(320, 320),
            mean=(0, 0, 0),
            std=(1, 1, 1),
            letterbox=LetterboxRule(),
            person_label=1,
            batch_range=batch_range,
        )
        self.boxes, self.scores = np.float32(boxes), np.float32(scores)
        self.labels = np.ones(len(scores), np.int64) if labels is None else np.int64(labels)
        self.batches = []

    def run(self, pixels):
        self.batches.append(pixels.shape)
        return {
            name: np.broadcast_to(values, (len(pixels), *values.shape))
            for name, values in {"boxes": self.boxes, "scores": self.scores, "labels": self.labels}.items()
        }


def test_letterbox_keeps_the_aspect_and_fills_right_and_bottom():
    spec = Scripted([], []).spec
    canvas = letterbox(np.full((100, 200, 3), 7, np.uint8), spec)
    assert canvas.shape == (320, 320, 3) and canvas.dtype == np.uint8
    assert (canvas[:160] == 7).all() and (canvas[160:] == 114).all()
    assert (letterbox(np.full((1000, 10, 3), 7, np.uint8), spec)[:, :3] == 7).all()


def test_boxes_are_scaled_back_by_each_axis_and_clipped_to_the_frame():
    detector = PersonDetector(Scripted([[10, 20, 100, 400]], [0.9]))
    detections = detector([_frame(333, 501)])
    scale_x, scale_y = 320 / 501, 213 / 333
    assert np.allclose(detections.boxes, [[10 / scale_x, 20 / scale_y, 100 / scale_x, 333]], atol=1e-3)


def test_only_people_above_the_threshold_and_not_the_same_twice():
    boxes = [[0, 0, 50, 100], [0, 0, 50, 90], [100, 0, 150, 100], [200, 0, 250, 100], [200, 100, 250, 200]]
    scores, labels = [0.5, 0.8, 0.3, 0.9, 0.95], [1, 1, 1, 0, 1]
    detections = PersonDetector(Scripted(boxes, scores, labels))([_frame(320, 320)])
    assert detections.scores.tolist() == pytest.approx([0.95, 0.8])  # strictly above 0.3, label 1, best first
    assert detections.boxes.tolist() == [boxes[4], boxes[1]]
    both = PersonDetector(Scripted(boxes, scores, labels), score_thr=0.2, nms_thr=1.0)([_frame(320, 320)])
    assert both.scores.tolist() == pytest.approx([0.95, 0.8, 0.5, 0.3])
    best = PersonDetector(Scripted(boxes, scores, labels), max_people=1)([_frame(320, 320)])
    assert best.scores.tolist() == pytest.approx([0.95])


def test_boxes_that_lie_in_the_padding_are_nobody():
    detections = PersonDetector(Scripted([[10, 200, 60, 300], [0, 0, 9, 9]], [0.9, 0.8]))([_frame(100, 200)])
    assert detections.scores.tolist() == pytest.approx([0.8])


def test_frames_run_together_in_chunks_and_keep_their_place():
    backend = Scripted([[0, 0, 50, 50]], [0.9], batch_range=(1, 4))
    detections = PersonDetector(backend)([_frame(100, 100 + n) for n in range(9)])
    assert [shape[0] for shape in backend.batches] == [4, 4, 1]
    assert detections.frame_of.tolist() == list(range(9))


@pytest.mark.parametrize("detect", [PersonDetector(Scripted([], [])), WholeFrame(), GivenBoxes({})])
def test_no_frames_give_no_detections(detect):
    detections = detect([])
    assert len(detections) == 0 and detections.boxes.shape == (0, 4)


def test_nobody_found():
    frames = [_frame(50, 60), _frame(50, 60)]
    assert len(PersonDetector(Scripted(np.zeros((0, 4)), []))(frames)) == 0
    assert len(PersonDetector(Scripted([[0, 0, 9, 9]], [0.1]))(frames)) == 0


def test_given_boxes_are_found_by_source():
    boxes = np.float32([[1, 2, 3, 4], [5, 6, 7, 8]])
    detections = GivenBoxes({"b": (boxes, np.float32([0.5, 0.9]))})([_frame(9, 9, "a"), _frame(9, 9, "b")])
    assert detections.frame_of.tolist() == [1, 1] and np.array_equal(detections.boxes, boxes)


def test_canvases_equal_the_originals(shared):
    """RTMDet `preproc` (mmdet Resize and Pad): exact with the same resize, else 1 grey level."""
    folder = shared / "reference" / "rtmdet" / "golden" / "preproc"
    for case in json.loads((folder / "cases.json").read_text())["cases"]:
        source, expected = (cv2.imread(str(folder / f"{case['name']}_{kind}.png")) for kind in ("src", "net"))
        spec = replace(Scripted([], []).spec, input_hw=(case["canvas"], case["canvas"]))
        assert np.abs(letterbox(source, spec).astype(int) - expected).max() <= 1, case["name"]
