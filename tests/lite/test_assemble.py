"""Raw outputs to poses and records."""

import json

import numpy as np
import pytest

from lite.assemble import assemble, join, to_records
from lite.structures import Crops, Detections, Frame


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
