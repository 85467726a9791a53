"""Result files, of the COCO format and of MPII, and detection files: what a server takes and what others computed."""

from pathlib import Path
from typing import Any

import numpy as np

from lite.errors import AnnotationError
from lite.evaluate.coco_files import KeypointTruth
from lite.evaluate.json_values import WHOLEBODY_FIELDS, flat_keypoints, is_number, is_numbers, read_json, short
from lite.evaluate.submit import PredictedPerson


def read_entries(path: str | Path, truth: KeypointTruth) -> list[dict[str, Any]]:
    """Read a keypoint results file of the COCO server's format; entries of other categories are left out.

    Raises:
        AnnotationError: the file cannot be read, or an entry does not fit the ground truth.
    """
    content = read_json(path)
    if not isinstance(content, list):
        raise AnnotationError(f"{path}: expected a COCO results file (a list of people), found another JSON")
    image_ids = truth.image_ids
    entries = []
    for number, entry in enumerate(content):
        where = f"{path}: entry {number}"
        if not isinstance(entry, dict):
            raise AnnotationError(f"{where}: expected an object, found {short(entry)}")
        if entry.get("category_id", truth.category_id) != truth.category_id:
            continue
        if not isinstance(entry.get("image_id"), int) or entry["image_id"] not in image_ids:
            raise AnnotationError(
                f"{where}: expected the id of an image of the annotation file, found {short(entry.get('image_id'))}"
            )
        if not is_number(entry.get("score")):
            raise AnnotationError(f"{where}: expected a finite score, found {short(entry.get('score'))}")
        keypoints = flat_keypoints(entry, truth.num_keypoints, where, required=True)
        entries.append(
            {
                "image_id": entry["image_id"],
                "category_id": truth.category_id,
                "keypoints": keypoints,
                "score": float(entry["score"]),
            }
        )
    return entries


def server_entries(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries as the COCO and COCO-WholeBody servers take them: 133 keypoints are spread over five fields."""
    return [entry | _spread(entry["keypoints"]) for entry in entries]


def read_boxes(path: str | Path, category_id: int = 1) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Read person boxes from a detection file of the COCO results format, entries with `bbox` (x, y, width, height).

    Returns:
        Image id -> (boxes (N, 4) float32 xyxy px, scores (N,) float32), in the order of the file.

    Raises:
        AnnotationError: the file cannot be read, or an entry is not a box with a score.
    """
    content = read_json(path)
    if not isinstance(content, list):
        raise AnnotationError(f"{path}: expected a COCO detection file (a list of boxes), found another JSON")
    found: dict[int, list[list[float]]] = {}
    others = {short(entry.get("category_id")) for entry in content if isinstance(entry, dict)} - {short(category_id)}
    for number, entry in enumerate(content):
        where = f"{path}: entry {number}"
        if not isinstance(entry, dict) or not isinstance(entry.get("image_id"), int):
            raise AnnotationError(f"{where}: expected an object with an integer image_id, found {short(entry)}")
        if entry.get("category_id", category_id) != category_id:
            continue
        box = entry.get("bbox")
        if not is_numbers(box, 4) or not is_number(entry.get("score")):
            raise AnnotationError(f"{where}: expected bbox (x, y, width, height) and a score, found {short(entry)}")
        x, y, width, height = box
        found.setdefault(entry["image_id"], []).append([x, y, x + width, y + height, entry["score"]])
    if content and not found:
        some = ", ".join(sorted(others))[:60]
        raise AnnotationError(f"{path}: expected boxes of the person's category {category_id}, found {some}")
    rows = {image_id: np.array(boxes, np.float64) for image_id, boxes in found.items()}
    return {image_id: (row[:, :4].astype(np.float32), row[:, 4].astype(np.float32)) for image_id, row in rows.items()}


def preds_of(keypoints: np.ndarray) -> dict[str, Any]:
    """MPII's results: `preds`, a list of 16 pairs a person in the order of the annotations, 1-based px.

    Args:
        keypoints: (N, 16, 2) 0-based px; NaN of people who were not found, who become null.
    """
    return {"preds": [None if np.isnan(person).any() else (person + 1).tolist() for person in keypoints]}


def read_preds(path: str | Path, *truths: KeypointTruth) -> list[PredictedPerson]:
    """Read what `preds_of` gives, for everybody of one of `truths`; `person_id` counts the annotations of a picture.

    Raises:
        AnnotationError: the file cannot be read or does not fit.
    """
    content = read_json(path)
    preds = content.get("preds") if isinstance(content, dict) else None
    truth = next((t for t in truths if isinstance(preds, list) and len(preds) == len(t.people)), None)
    if truth is None or not isinstance(preds, list):
        found = f"{len(preds)} people" if isinstance(preds, list) else "another JSON"
        raise AnnotationError(
            f"{path}: expected preds of the {len(truths[0].people)} annotated people, in their order, found {found}"
        )
    people, counted = [], dict.fromkeys(truth.image_ids, 0)
    for number, (person, given) in enumerate(zip(truth.people, preds)):
        person_id = counted[person["image_id"]]
        counted[person["image_id"]] += 1
        if given is None:
            continue
        if not isinstance(given, list) or len(given) != truth.num_keypoints or not all(is_numbers(p, 2) for p in given):
            raise AnnotationError(
                f"{path}: expected {truth.num_keypoints} pairs (x, y) for person {number}, found {short(given)}"
            )
        keypoints = np.array(given, np.float64) - 1
        people.append(
            PredictedPerson(
                image_id=person["image_id"],
                person_id=person_id,
                keypoints=keypoints,
                keypoint_scores=np.ones(len(keypoints)),
                box_score=1.0,
                area=person["area"],
            )
        )
    return people


def _spread(keypoints: list[float]) -> dict[str, list[float]]:
    if len(keypoints) != 3 * sum(WHOLEBODY_FIELDS.values()):
        return {"keypoints": keypoints}
    stops = np.cumsum([3 * count for count in WHOLEBODY_FIELDS.values()]).tolist()
    return {name: keypoints[start:stop] for name, start, stop in zip(WHOLEBODY_FIELDS, [0, *stops], stops)}
