"""Detected boxes + ground truth -> recall, precision and box AP; and the boxes an evaluation on ground truth uses."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lite.evaluate.coco_files import KeypointTruth
from lite.evaluate.keypoint_ap import load_pycocotools, silence
from lite.geometry import iou

Boxes = tuple[np.ndarray, np.ndarray]  # boxes (N, 4) float32 xyxy px, scores (N,) float32


def truth_boxes(people: list[dict[str, Any]], size_hw: tuple[int, int], *, inclusive: bool = False) -> np.ndarray:
    """Boxes of the people of one picture that a pose network is judged on, clipped to its pixel centres.

    Left out are crowds, people without a labelled keypoint, and boxes that are empty after clipping.

    Args:
        people: `KeypointTruth.people` of the picture.
        size_hw: of the picture, px.
        inclusive: boxes end at their last pixel, one less wide and high, and people without an area are left out.

    Returns:
        (N, 4) float32 xyxy px.

    Source: mmpose 1.x, `BaseCocoStyleDataset.parse_data_info`; inclusive: mmpose 0.x and ViTPose,
    `topdown_coco_dataset.py`.
    """
    limit = np.array([size_hw[1] - 1, size_hw[0] - 1] * 2, np.float64)
    kept = []
    for person in people:
        x, y, width, height = person["bbox"]
        if inclusive:
            x, y, width, height = max(x, 0), max(y, 0), max(width - 1, 0), max(height - 1, 0)
        box = np.clip([x, y, x + width, y + height], 0, limit)
        triples = np.asarray(person["keypoints"], np.float64).reshape(-1, 3)
        if inclusive and not person["area"] > 0:
            continue
        judged = not person["iscrowd"] and person["num_keypoints"] > 0 and triples[:, :2].max(initial=0) > 0
        if judged and box[2] > box[0] and box[3] > box[1]:
            kept.append(box)
    return np.array(kept, np.float32).reshape(-1, 4)


def detection_recall(
    truth: KeypointTruth,
    boxes_of: Mapping[int, Boxes],
    *,
    score_thr: float = 0.3,
    iou_thr: float = 0.5,
    least_area: float = 48.0 * 48.0,
) -> tuple[float, int]:
    """Share of people with keypoints, larger than `least_area` px^2, that some box covers, and how many they are.

    A box covers a person when its score is above `score_thr` and their IoU is above `iou_thr`; -1 when there is nobody.
    """
    hits = total = 0
    for person in truth.people:
        if person["iscrowd"] or person["num_keypoints"] == 0 or person["area"] <= least_area:
            continue
        boxes, scores = boxes_of.get(person["image_id"], _NO_BOXES)
        overlap = iou(_xyxy(person)[None], boxes[scores > score_thr])
        hits += bool((overlap > iou_thr).any())
        total += 1
    return (hits / total if total else -1.0), total


def invented_people(
    truth: KeypointTruth, boxes_of: Mapping[int, Boxes], *, score_thr: float = 0.3, iou_thr: float = 0.5
) -> tuple[int, int]:
    """Boxes above `score_thr` with nobody in them, and the boxes looked at.

    Annotated boxes are matched one to one, best score first, at IoU `iou_thr`; a box that lies mostly in a crowd does
    not count at all. Only pictures where every person has a box are looked at.
    """
    invented = looked_at = 0
    for image in truth.images:
        if not image.get("boxes_complete", True):
            continue
        boxes, scores = boxes_of.get(image["id"], _NO_BOXES)
        order = np.argsort(-scores, kind="stable")
        boxes = boxes[order][scores[order] > score_thr]
        people = truth.people_of(image["id"])
        crowds = [_xyxy(person) for person in people if person["iscrowd"]]
        open_people = [_xyxy(person) for person in people if not person["iscrowd"]]
        for box in boxes:
            overlaps = iou(box[None], np.array(open_people, np.float32).reshape(-1, 4))[0]
            if overlaps.size and overlaps.max() > iou_thr:
                open_people.pop(int(overlaps.argmax()))
            elif any(_share_inside(box, crowd) > iou_thr for crowd in crowds):
                continue
            else:
                invented += 1
            looked_at += 1
    return invented, looked_at


def box_ap(truth: KeypointTruth, boxes_of: Mapping[int, Boxes]) -> dict[str, float]:
    """COCO box AP, AP .5 and AR (100 boxes) of people, over the pictures where every person has a box.

    Raises:
        MissingExtraError: pycocotools is not installed.
    """
    coco_class, evaluator_class = load_pycocotools()
    truth = truth.only({image["id"] for image in truth.images if image.get("boxes_complete", True)})
    found = []
    for image_id in sorted(truth.image_ids):
        for box, score in zip(*boxes_of.get(image_id, _NO_BOXES)):
            x1, y1, x2, y2 = map(float, box)
            shape = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "score": float(score)}
            found.append({"id": len(found) + 1, "image_id": image_id, "category_id": truth.category_id} | shape)
    with silence():
        evaluator = evaluator_class(truth.index(coco_class), truth.index(coco_class, found), iouType="bbox")
        evaluator.evaluate()
        evaluator.accumulate()
    precision, recall = evaluator.eval["precision"][:, :, 0, 0, -1], evaluator.eval["recall"][:, 0, 0, -1]
    return {"AP": _mean(precision), "AP .5": _mean(precision[0]), "AR": _mean(recall)}


_NO_BOXES: Boxes = (np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


def _mean(values: np.ndarray) -> float:
    values = values[values > -1]
    return float(values.mean()) if values.size else -1.0


def _xyxy(person: dict[str, Any]) -> np.ndarray:
    x, y, width, height = person["bbox"]
    return np.array([x, y, x + width, y + height], np.float32)


def _share_inside(box: np.ndarray, crowd: np.ndarray) -> float:
    """Share of the box's own area that lies in the crowd's."""
    sides = np.maximum(np.minimum(box[2:], crowd[2:]) - np.maximum(box[:2], crowd[:2]), 0)
    return float(sides.prod() / max(float((box[2:] - box[:2]).prod()), 1e-9))
