"""`lite.evaluate.boxes`: ground-truth boxes as the original takes them, recall, invented people, box AP."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

from lite.evaluate.boxes import box_ap, detection_recall, invented_people, truth_boxes
from lite.evaluate.coco_files import KeypointTruth, read_truth
from lite.evaluate.data_sets import open_truth
from lite.evaluate.result_files import read_boxes
from lite.geometry import box_to_center_scale


def found(*rows: tuple[float, float, float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return table[:, :4], table[:, 4]


def person(number: int, box: list[float], image_id: int = 1, **changes: object) -> dict:
    whole = {"id": number, "image_id": image_id, "category_id": 1, "bbox": box, "area": box[2] * box[3] * 0.6}
    return whole | {"keypoints": [box[0] + 1, box[1] + 1, 2] * 17, "num_keypoints": 17, "iscrowd": 0} | changes


def truth_of(*people: dict, complete: bool = True) -> KeypointTruth:
    images = [{"id": 1, "file_name": "a.jpg", "boxes_complete": complete}, {"id": 2, "file_name": "b.jpg"}]
    return KeypointTruth(images=images, people=list(people), category_id=1, num_keypoints=17)


def test_truth_boxes_as_the_original(golden: Path) -> None:
    truth = read_truth(golden / "sapiens/eval_coco_annotations.json", 17)
    expected = json.loads((golden / "sapiens/eval_coco_boxes.json").read_text())
    checked = 0
    for image in truth.images:
        boxes = truth_boxes(truth.people_of(image["id"]), (image["height"], image["width"]))
        of_image = [row["bbox_xyxy"] for row in expected if row["img_id"] == image["id"]]
        np.testing.assert_allclose(boxes, np.float32(of_image).reshape(-1, 4), atol=1e-4)
        checked += len(boxes)
    assert checked == len(expected) == 12


def test_inclusive_boxes_as_vitpose(golden: Path) -> None:
    expect_vitpose_boxes(golden / "vitpose/eval/aic_synth")


@pytest.mark.parametrize("case", ["coco_gt", "coco_synth", "aic_gt", "crowdpose_gt"])
def test_inclusive_boxes_as_vitpose_elsewhere(shared: Path, case: str) -> None:
    expect_vitpose_boxes(shared / "reference/vitpose/golden/eval" / case)


@pytest.mark.parametrize(("inclusive", "count"), [(False, 1), (True, 0)])
def test_people_without_an_area(inclusive: bool, count: int) -> None:
    """ViTPose leaves them out."""
    person = {"bbox": [1, 2, 30, 40], "area": 0, "iscrowd": 0, "num_keypoints": 1, "keypoints": [5, 6, 2]}
    assert len(truth_boxes([person], (64, 64), inclusive=inclusive)) == count


def expect_vitpose_boxes(folder: Path) -> None:
    _, _, truth = open_truth(folder / "annotations.json")
    rows = json.loads((folder / "expected.json").read_text())["test_mode_db"]
    checked = 0
    for image in truth.images:
        boxes = truth_boxes(truth.people_of(image["id"]), (image["height"], image["width"]), inclusive=True)
        mine = np.array([row["bbox"] for row in rows if row["image"] == image["file_name"]]).reshape(-1, 4)
        np.testing.assert_allclose(boxes, np.column_stack([mine[:, :2], mine[:, :2] + mine[:, 2:]]), atol=1e-3)
        center, scale = box_to_center_scale(boxes, 1.25, (256, 192))
        expected = [row for row in rows if row["image"] == image["file_name"]]
        np.testing.assert_allclose(center, np.array([r["center"] for r in expected]).reshape(-1, 2), atol=1e-3)
        np.testing.assert_allclose(scale / 200, np.array([r["scale"] for r in expected]).reshape(-1, 2), atol=1e-5)
        checked += len(boxes)
    assert checked == len(rows) > 3


def test_boxes_of_a_detection_file(shared: Path) -> None:
    """All of the person boxes of the file, as the originals take them, in its order."""
    folder = shared / "reference"
    rows = json.loads((folder / "sapiens/golden/dataset_records.json").read_text())["coco_bbox_file"]
    found = read_boxes(folder / "sapiens/golden/coco/test_coco_det_AP_H_56.json")
    for image_id, (boxes, scores) in found.items():
        mine = [row for row in rows if row["img_id"] == image_id]
        np.testing.assert_allclose(boxes, [row["bbox_xyxy"] for row in mine], atol=1e-3)
        np.testing.assert_allclose(scores, [row["bbox_score"] for row in mine], atol=1e-6)
    assert sum(len(boxes) for boxes, _ in found.values()) == len(rows) == 118
    again = read_boxes(folder / "vitpose/golden/eval/coco_det/detections.json")
    rows = json.loads((folder / "vitpose/golden/eval/coco_det/expected.json").read_text())["test_mode_db"]
    boxes = np.concatenate([boxes for boxes, _ in again.values()])
    expected = {(round(r["center"][0], 2), round(r["scale"][0], 4)) for r in rows}
    center, scale = box_to_center_scale(boxes, 1.25, (256, 192))
    assert {(round(float(c), 2), round(float(s) / 200, 4)) for c, s in zip(center[:, 0], scale[:, 0])} == expected


def test_boxes_of_whole_bodies(shared: Path) -> None:
    folder = shared / "reference/sapiens/golden"
    rows = json.loads((folder / "dataset_records.json").read_text())["wholebody"]
    _, _, truth = open_truth(folder / "coco/test_coco_wholebody.json")
    for image in truth.images:
        boxes = truth_boxes(truth.people_of(image["id"]), (image["height"], image["width"]))
        of_image = [row["bbox_xyxy"] for row in rows if row["img_id"] == image["id"]]
        np.testing.assert_allclose(boxes, np.float32(of_image).reshape(-1, 4), atol=1e-4)
    visible = [p["num_keypoints"] for p in truth.people if not p["iscrowd"] and p["num_keypoints"]]
    assert sorted(visible) == sorted(row["num_visible"] for row in rows)


def test_truth_boxes_left_out() -> None:
    people = [
        person(1, [0, 0, 50, 90], iscrowd=1),
        person(2, [0, 0, 50, 90], num_keypoints=0),
        person(3, [200, 0, 50, 90]),
        person(4, [0, 0, 50, 90], keypoints=[0, 0, 2] * 17),
        person(5, [-5, 10, 50, 200]),
    ]
    assert truth_boxes(people, (100, 100)).tolist() == [[0, 10, 45, 99]]
    assert truth_boxes([], (100, 100)).shape == (0, 4)


def test_recall() -> None:
    truth = truth_of(
        person(1, [0, 0, 100, 100]),
        person(2, [200, 0, 100, 100]),
        person(3, [0, 200, 48, 48], area=48.0 * 48.0),
        person(4, [0, 300, 100, 100], num_keypoints=0),
        person(5, [0, 0, 100, 100], image_id=2),
    )
    hit, low, apart = (0, 0, 100, 90, 0.9), (200, 0, 300, 100, 0.3), (0, 0, 49, 100, 0.9)
    assert detection_recall(truth, {1: found(hit, low), 2: found(apart)}) == (pytest.approx(1 / 3), 3)
    assert detection_recall(truth, {1: found(hit, low)}, score_thr=0.2) == (pytest.approx(2 / 3), 3)
    assert detection_recall(truth, {}) == (0.0, 3)
    assert detection_recall(truth_of(), {1: found(hit)}) == (-1.0, 0)


def test_invented_people() -> None:
    truth = truth_of(person(1, [0, 0, 100, 100]), person(2, [300, 300, 200, 200], iscrowd=1))
    good, copy, in_crowd, nobody = (
        (0, 0, 100, 99, 0.9),
        (0, 0, 99, 100, 0.8),
        (350, 350, 400, 400, 0.9),
        (90, 90, 150, 150, 0.5),
    )
    assert invented_people(truth, {1: found(good, in_crowd)}) == (0, 1)
    assert invented_people(truth, {1: found(good, copy, in_crowd, nobody), 2: found(good)}) == (3, 4)
    assert invented_people(truth, {1: found(good, nobody)}, score_thr=0.6) == (0, 1)
    assert invented_people(truth_of(complete=False), {1: found(good)}) == (0, 0)


def test_box_ap_equals_pycocotools(golden: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    folder = golden / "vitpose/eval/coco_det"
    rng = np.random.default_rng(0)
    truth = read_truth(folder / "annotations.json", 17)
    rows, boxes_of = [], {}
    for image_id in sorted(truth.image_ids):
        table = []
        for someone in truth.people_of(image_id) * 2:
            x, y, w, h = np.round(np.array(someone["bbox"]) + rng.normal(0, 6, 4))
            table.append((x, y, x + w, y + h, float(np.float32(rng.random()))))
            rows.append({"image_id": image_id, "category_id": 1, "bbox": [x, y, w, h], "score": table[-1][4]})
        boxes_of[image_id] = found(*table)
    with contextlib.redirect_stdout(io.StringIO()):
        index = coco.COCO(str(folder / "annotations.json"))
        evaluator = cocoeval.COCOeval(index, index.loadRes(rows), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    expected = {"AP": evaluator.stats[0], "AP .5": evaluator.stats[1], "AR": evaluator.stats[8]}
    assert 0.1 < expected["AP"] < 0.9
    assert box_ap(truth, boxes_of) == pytest.approx(expected, abs=1e-9)


def test_box_ap_of_nothing() -> None:
    pytest.importorskip("pycocotools")
    assert box_ap(truth_of(person(1, [0, 0, 100, 100])), {}) == {"AP": 0.0, "AP .5": 0.0, "AR": 0.0}
    assert box_ap(truth_of(), {}) == {"AP": -1.0, "AP .5": -1.0, "AR": -1.0}
    assert box_ap(truth_of(person(1, [0, 0, 100, 100]), complete=False), {})["AP"] == -1.0
