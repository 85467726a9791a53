"""Raw outputs to poses and records."""

import json

import numpy as np
import pytest

from lite.assemble import assemble, join, not_finite, to_records
from lite.structures import Classes, Crops, Detections, Frame, Segments


def _poses(frame_of, shift=0.0, keypoint=(2.0, 3.0)):
    n = len(frame_of)
    detections = Detections(
        boxes=np.float32([[0, 0, 10 + i, 20] for i in range(n)]).reshape(n, 4),
        scores=np.linspace(0.9, 0.1, n, dtype=np.float32),
        frame_of=np.int64(frame_of),
    )
    to_frame = np.tile(np.float32([[2, 0, 100 + shift], [0, 3, -5]]), (n, 1, 1))
    crops = Crops(pixels=np.zeros((n, 4, 4, 3), np.uint8), to_frame=to_frame, detections=detections)
    raw = {"keypoints": np.tile(np.float32(keypoint), (n, 5, 1)), "scores": np.full((n, 5), 1 / 3, np.float32)}
    return assemble(raw, crops)


def _frames(n):
    return [Frame(pixels=np.zeros((7, 9, 3), np.uint8), source=str(i), index=i) for i in range(n)]


def test_keypoints_move_to_the_frame():
    poses = _poses([0, 2])
    assert np.allclose(poses.keypoints, [104, 4]) and poses.keypoints.dtype == np.float32


@pytest.mark.parametrize("frame_of", [[], [1], [0, 0, 2, 2, 2]])
def test_every_frame_has_its_people(frame_of):
    records = to_records(_frames(4), _poses(frame_of))
    assert [len(record.people) for record in records] == [frame_of.count(n) for n in range(4)]
    assert [record.source for record in records] == list("0123")
    assert all(record.size_hw == (7, 9) and record.error is None for record in records)


def test_records_are_plain_rounded_json():
    (record,) = to_records(_frames(1), _poses([0], shift=1 / 3))
    person = record.people[0]
    assert person["keypoints"][0] == [104.333, 4.0] and person["keypoint_scores"][0] == 0.33333
    assert person["bbox"] == [[0, 0, 10, 20]] and person["bbox_score"] == 0.9
    assert json.loads(json.dumps(person, allow_nan=False)) == person


def test_joining_portions_gives_the_whole():
    whole = join([_poses([0, 0]), _poses([]), _poses([1])])
    assert whole.frame_of.tolist() == [0, 0, 1] and whole.keypoints.shape == (3, 5, 2)
    assert len(join([_poses([])])) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_never_reach_a_record(value):
    bad, good = to_records(_frames(2), join([_poses([0], keypoint=(value, 0)), _poses([1])]))
    assert bad.people == [] and "not finite" in bad.error
    assert len(good.people) == 1 and good.error is None


def _classes(*scores):
    values = np.float32([[score, score / 2] for score in scores]).reshape(-1, 2)
    return Classes(
        labels=np.tile([7, 1], (len(scores), 1)).astype(np.int64),
        scores=values,
        frame_of=np.arange(len(scores), dtype=np.int64),
    )


def _segments(boxes, detections, frame_of, value=1):
    boxes = np.int64(boxes).reshape(-1, 4)
    return Segments(
        labels=tuple(np.full((y2 - y1, x2 - x1), value, np.uint8) for x1, y1, x2, y2 in boxes),
        boxes=boxes,
        detections=np.int64(detections),
        scores=np.ones(len(boxes), np.float32),
        frame_of=np.int64(frame_of),
    )


def test_classes_have_names_and_those_without_a_number():
    one, two = to_records(_frames(2), classes=_classes(0.5, 1 / 3), class_names=["fish", "hen"])
    assert one.classes == [{"label": 7, "name": "7", "score": 0.5}, {"label": 1, "name": "hen", "score": 0.25}]
    assert two.classes[0]["score"] == 0.33333 and two.people == [] and two.areas is None
    assert to_records([], classes=_classes()) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_classes_that_are_not_finite(value):
    bad, good = to_records(_frames(2), classes=_classes(value, 0.5))
    assert bad.classes is None and "the classification network gave values that are not finite" in bad.error
    assert good.classes and good.error is None


def test_areas_of_frames_and_of_people():
    names = ["background", "hair"]
    records = to_records(_frames(3), segments=_segments([[0, 0, 9, 7]] * 3, [-1] * 3, [0, 1, 2]), label_names=names)
    assert [record.areas for record in records] == [{"hair": 63}] * 3
    frame_of = [0, 0, 2]
    segments = _segments([[0, 0, 2, 2], [1, 1, 4, 2], [3, 3, 3, 5]], [0, 1, 2], frame_of)
    for who in ({"poses": _poses(frame_of)}, {"people": _poses(frame_of)}):
        first, second, third = to_records(_frames(3), segments=segments, label_names=names, **who)
        assert [person["areas"] for person in first.people] == [{"hair": 4}, {"hair": 3}]
        assert second.people == [] and second.areas is None
        assert [person["areas"] for person in third.people] == [{}]  # outside of the frame
    nobody = to_records(_frames(1), people=_poses([]), segments=_segments([], [], []), label_names=names)
    assert nobody[0].people == [] and nobody[0].areas is None and nobody[0].error is None


def test_unusable_labels_take_nothing_from_the_people():
    segments = _segments([[0, 0, 2, 2], [1, 1, 4, 2]], [0, 1], [0, 1])
    bad, good = to_records(_frames(2), _poses([0, 1]), segments=segments, unusable={0})
    assert "segmentation network gave" in bad.error and len(bad.people) == 1 and "areas" not in bad.people[0]
    assert good.people[0]["areas"] == {"1": 3} and good.error is None
    (bad,) = to_records(_frames(1), segments=_segments([[0, 0, 9, 7]], [-1], [0]), unusable={0})
    assert bad.areas is None and bad.error


def test_several_that_failed_are_named():
    assert not_finite(["pose"]).startswith("the pose network gave")
    assert not_finite(["pose", "classification"]).startswith("the pose and classification networks gave")
