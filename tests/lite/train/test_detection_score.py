"""Box AP on cases done by hand and against pycocotools."""

import contextlib
import io

import numpy as np
import pytest

from lite.train.detection_score import average_precision, outcomes

NOTHING = np.zeros((0, 4), np.float32)


def boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


def test_perfect_missed_and_empty():
    truth = boxes([0, 0, 10, 10])
    assert average_precision([(truth, np.ones(1), truth, NOTHING)]) == pytest.approx(1.0)
    assert average_precision([(NOTHING, np.ones(0), truth, NOTHING)]) == 0.0
    assert average_precision([(truth, np.ones(1), NOTHING, NOTHING)]) == 0.0
    assert average_precision([]) == 0.0


def test_false_alarm_above_a_hit_halves_the_precision():
    truth = boxes([0, 0, 10, 10])
    found = boxes([50, 50, 60, 60], [0, 0, 10, 10])
    assert average_precision([(found, np.array([0.9, 0.8]), truth, NOTHING)]) == pytest.approx(0.5)


def test_ignored_regions_swallow_false_alarms_but_no_hits():
    truth = boxes([0, 0, 10, 10])
    found = boxes([50, 50, 60, 60], [0, 0, 10, 10])
    region = boxes([0, 0, 100, 100])
    assert average_precision([(found, np.array([0.9, 0.8]), truth, region)]) == pytest.approx(1.0)


def test_second_box_on_one_person_is_a_false_alarm():
    truth = boxes([0, 0, 10, 10])
    _, hits, counted = outcomes(boxes([0, 0, 10, 10], [0, 0, 10, 9]), np.array([0.9, 0.8]), truth, NOTHING)
    assert hits[0].tolist() == [True, False] and counted.all()


def test_equals_pycocotools():
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    rng = np.random.default_rng(4)
    frames, images, truths, results = [], [], [], []
    for image in range(1, 13):
        truth = random_boxes(rng, rng.integers(0, 6))
        crowd = random_boxes(rng, image % 2) * np.float32([1, 1, 2, 2])
        near = truth + rng.normal(0, 6, truth.shape).astype(np.float32)
        found = np.concatenate([near, random_boxes(rng, 5)])
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        scores = rng.permutation(len(found)).astype(np.float32) + np.float32(image / 100)
        frames.append((found, scores, truth, crowd))
        images.append({"id": image, "width": 400, "height": 400})
        for box, is_crowd in [*((b, 0) for b in truth), *((b, 1) for b in crowd)]:
            w, h = map(float, box[2:] - box[:2])
            entry = {"id": len(truths) + 1, "image_id": image, "category_id": 1, "iscrowd": is_crowd, "area": w * h}
            truths.append(entry | {"bbox": [float(box[0]), float(box[1]), w, h]})
        for box, score in zip(found, scores):
            w, h = map(float, box[2:] - box[:2])
            entry = {"image_id": image, "category_id": 1, "score": float(score)}
            results.append(entry | {"bbox": [float(box[0]), float(box[1]), w, h]})
    with contextlib.redirect_stdout(io.StringIO()):
        truth_set = coco.COCO()
        truth_set.dataset = {"images": images, "annotations": truths, "categories": [{"id": 1, "name": "person"}]}
        truth_set.createIndex()
        scorer = evaluation.COCOeval(truth_set, truth_set.loadRes(results), "bbox")
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    found = average_precision(frames)
    assert 0.05 < found < 0.95
    assert found == pytest.approx(scorer.stats[0], abs=1e-6)


def random_boxes(rng, count):
    corner = rng.uniform(0, 300, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(20, 100, (count, 2))], axis=1).astype(np.float32)
