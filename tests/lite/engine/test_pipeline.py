"""The flow with fake backends: any number of people, any sizes, order kept."""

import json

import numpy as np
import pytest

from lite.engine.pipeline import Pipeline
from lite.errors import ModelError
from lite.structures import Frame


def test_nobody_one_and_many_people_keep_their_frames(fake_pose, fake_detector, picture):
    counts = [0, 3, 1, 0, 11, 2]
    frames = [picture(n, h=96 + 10 * i, w=192 - 7 * i, brightness=20 * i + 40) for i, n in enumerate(counts)]
    records = Pipeline(fake_pose, fake_detector, batch_size=4)(frames)
    assert [len(record.people) for record in records] == counts
    assert [record.size_hw for record in records] == [frame.shape[:2] for frame in frames]
    assert fake_pose.batches == [4, 4, 4, 4, 1]  # 17 people of six pictures, the tail as short as it is
    for i, record in enumerate(records):
        scores = [person["bbox_score"] for person in record.people]
        assert scores == sorted(scores, reverse=True)
        for person in record.people:
            assert person["keypoint_scores"][0] == pytest.approx((20 * i + 40) / 255, abs=1e-4)
    json.dumps([record.people for record in records], allow_nan=False)


@pytest.mark.parametrize(
    ("detector", "asked", "given"),
    [
        (None, ("openvino", "int8"), ("auto", "auto")),  # runs eagerly, which int8 cannot
        (None, ("auto", "bfloat16"), ("auto", "bfloat16")),
        ("boxes.onnx", ("openvino", "int8"), ("openvino", "int8")),
        ("boxes.xml", ("onnxruntime", "auto"), ("auto", "auto")),
    ],
)
def test_a_detector_that_cannot_have_the_backend_or_mode_takes_its_own(
    fake_pose, fake_detector, monkeypatch, detector, asked, given
):
    opened = []

    def opening(model, *, backend, mode, **options):
        opened.append((backend, mode))
        return fake_detector if len(opened) == 2 else fake_pose

    monkeypatch.setattr("lite.engine.pipeline.open_backend", opening)
    Pipeline("pose.onnx", detector, backend=asked[0], mode=asked[1])
    assert opened == [asked, given]


def test_no_frames_and_nobody_at_all(fake_pose, fake_detector, picture):
    pipeline = Pipeline(fake_pose, fake_detector)
    assert pipeline([]) == []
    (record,) = pipeline([picture(0)])
    assert record.people == [] and record.error is None and record.size_hw == (96, 96)
    assert fake_pose.batches == []


def test_keypoints_land_where_the_box_is(fake_pose, fake_detector, picture):
    (record,) = Pipeline(fake_pose, fake_detector)([picture(1, h=192, w=192)])
    x1, y1, x2, y2 = record.people[0]["bbox"][0]
    assert (x1, y1, x2, y2) == (0, 16, 14, 80)
    height = 64 * 1.25
    first, last = record.people[0]["keypoints"][0], record.people[0]["keypoints"][-1]
    assert first == pytest.approx([7 - height * 0.75 / 2, 48 - height / 2], abs=1e-3)
    assert last == pytest.approx([7 + height * 0.75 / 2, 48 + height / 2], abs=1e-3)


def test_without_detector_the_whole_frame_is_one_box(fake_pose, picture):
    pipeline = Pipeline(fake_pose, "none")
    records = pipeline([Frame(pixels=picture(0, h=30, w=50), source="a.jpg"), picture(0, h=8, w=8)])
    assert [record.people[0]["bbox"] for record in records] == [[[0, 0, 50, 30]], [[0, 0, 8, 8]]]
    assert [record.source for record in records] == ["a.jpg", "array-1"]
    assert records[0].people[0]["bbox_score"] == 1


def test_values_that_are_not_finite_become_an_error_of_their_frame(fake_pose, fake_detector, picture, monkeypatch):
    run = fake_pose.run

    def overflow(pixels):
        outputs = run(pixels)
        outputs["keypoints"][0, 3] = np.nan
        return outputs

    monkeypatch.setattr(fake_pose, "run", overflow)
    bad, good = Pipeline(fake_pose, fake_detector)([picture(2), picture(2)])
    assert bad.people == [] and "not finite" in bad.error
    assert len(good.people) == 2 and good.error is None


def test_networks_of_the_wrong_kind_are_refused(fake_pose, fake_detector):
    with pytest.raises(
        ModelError, match="expected a network for keypoints, segmentation or classification, found one for detect"
    ):
        Pipeline(fake_detector, fake_detector)
    with pytest.raises(ModelError, match="expected a detector, found a network for pose"):
        Pipeline(fake_pose, fake_pose)


def test_closing_closes_both_networks(fake_pose, fake_detector):
    with Pipeline(fake_pose, fake_detector):
        assert not fake_pose.closed
    assert fake_pose.closed and fake_detector.closed
