"""COCO annotation and result files, checked and completed so that scoring them cannot stumble."""

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lite.errors import AnnotationError

AREA_OF_BOX = 0.53  # share of its box a person covers, where the file gives no area (AI Challenger's own rule)

# COCO-WholeBody spreads its 133 keypoints over these fields, in this order: field -> number of keypoints.
WHOLEBODY_FIELDS = {"keypoints": 17, "foot_kpts": 6, "face_kpts": 68, "lefthand_kpts": 21, "righthand_kpts": 21}


@dataclass(frozen=True, kw_only=True)
class KeypointTruth:
    """Ground truth of one annotation file.

    Attributes:
        images: the entries of the file, `id` and `file_name` among them.
        people: annotations of the person category, complete: `id` from 1, `image_id`, `category_id`, `bbox` xywh px,
            `area` px^2, `area_is_estimate` where the file does not give it or says so, `keypoints` flat x, y,
            visibility of all K, `num_keypoints`, `iscrowd`.
        category_id: of the person category.
        num_keypoints: K.
    """

    images: list[dict[str, Any]]
    people: list[dict[str, Any]]
    category_id: int
    num_keypoints: int

    @property
    def image_ids(self) -> set[int]:
        return {image["id"] for image in self.images}

    def people_of(self, image_id: int) -> list[dict[str, Any]]:
        """The people of one picture, in the order of the file."""
        return self._people_of.get(image_id, [])

    @cached_property
    def _people_of(self) -> dict[int, list[dict[str, Any]]]:
        found: dict[int, list[dict[str, Any]]] = {}
        for person in self.people:
            found.setdefault(person["image_id"], []).append(person)
        return found

    def index(self, coco_class: type, annotations: list[dict[str, Any]] | None = None) -> Any:
        """A pycocotools `COCO` of the pictures and the category, with these annotations or the people of the file."""
        index = coco_class()
        annotations = self.people if annotations is None else annotations
        # pycocotools writes into the annotations it is given.
        annotations = [dict(annotation) for annotation in annotations]
        index.dataset = {"images": self.images, "categories": [{"id": self.category_id}], "annotations": annotations}
        index.createIndex()
        return index

    def only(self, image_ids: set[int]) -> "KeypointTruth":
        """The same truth for some of the pictures."""
        return KeypointTruth(
            images=[image for image in self.images if image["id"] in image_ids],
            people=[person for person in self.people if person["image_id"] in image_ids],
            category_id=self.category_id,
            num_keypoints=self.num_keypoints,
        )


def read_truth(path: str | Path, num_keypoints: int) -> KeypointTruth:
    """Read a COCO keypoint annotation file (or COCO-WholeBody for 133 keypoints).

    Raises:
        AnnotationError: the file cannot be read, is no COCO annotation file, or an annotation does not fit.
    """
    content = _read_json(path)
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in ("images", "annotations")):
        raise AnnotationError(
            f"{path}: expected a COCO annotation file (an object with images and annotations), found another JSON"
        )
    image_ids = set()
    for image in content["images"]:
        if (
            not isinstance(image, dict)
            or not isinstance(image.get("id"), int)
            or not isinstance(image.get("file_name"), str)
        ):
            raise AnnotationError(
                f"{path}: expected every image to have an integer id and a file_name, found {_short(image)}"
            )
        if image["id"] in image_ids:
            raise AnnotationError(
                f"{path}: expected each image id once, found {image['id']} twice; make the ids unique"
            )
        image_ids.add(image["id"])
    category_id = _person_category(content, path)
    people: list[dict[str, Any]] = []
    seen: set[Any] = set()
    for annotation in content["annotations"]:
        if not isinstance(annotation, dict):
            raise AnnotationError(f"{path}: expected every annotation to be an object, found {_short(annotation)}")
        where = f"{path}: annotation {annotation.get('id')}"
        if annotation.get("id") is not None and annotation["id"] in seen:
            raise AnnotationError(f"{where}: expected each id once, found it twice; make the ids unique")
        seen.add(annotation.get("id"))
        if annotation.get("category_id", category_id) != category_id:
            continue
        if annotation.get("image_id") not in image_ids:
            raise AnnotationError(
                f"{where}: expected the id of an image of the file, found {annotation.get('image_id')!r}"
            )
        people.append(_complete(annotation, len(people) + 1, category_id, num_keypoints, where))
    return KeypointTruth(
        images=content["images"],
        people=people,
        category_id=category_id,
        num_keypoints=num_keypoints,
    )


def read_entries(path: str | Path, truth: KeypointTruth) -> list[dict[str, Any]]:
    """Read a keypoint results file of the COCO server's format; entries of other categories are left out.

    Raises:
        AnnotationError: the file cannot be read, or an entry does not fit the ground truth.
    """
    content = _read_json(path)
    if not isinstance(content, list):
        raise AnnotationError(f"{path}: expected a COCO results file (a list of people), found another JSON")
    image_ids = truth.image_ids
    entries = []
    for number, entry in enumerate(content):
        where = f"{path}: entry {number}"
        if not isinstance(entry, dict):
            raise AnnotationError(f"{where}: expected an object, found {_short(entry)}")
        if entry.get("category_id", truth.category_id) != truth.category_id:
            continue
        if entry.get("image_id") not in image_ids:
            raise AnnotationError(
                f"{where}: expected the id of an image of the annotation file, found {entry.get('image_id')!r}"
            )
        if not _is_number(entry.get("score")):
            raise AnnotationError(f"{where}: expected a finite score, found {_short(entry.get('score'))}")
        keypoints = _keypoints(entry, truth.num_keypoints, where, required=True)
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
    content = _read_json(path)
    if not isinstance(content, list):
        raise AnnotationError(f"{path}: expected a COCO detection file (a list of boxes), found another JSON")
    found: dict[int, list[list[float]]] = {}
    for number, entry in enumerate(content):
        where = f"{path}: entry {number}"
        if not isinstance(entry, dict) or not isinstance(entry.get("image_id"), int):
            raise AnnotationError(f"{where}: expected an object with an integer image_id, found {_short(entry)}")
        if entry.get("category_id", category_id) != category_id:
            continue
        box = entry.get("bbox")
        if not _is_numbers(box, 4) or not _is_number(entry.get("score")):
            raise AnnotationError(f"{where}: expected bbox (x, y, width, height) and a score, found {_short(entry)}")
        x, y, width, height = box
        found.setdefault(entry["image_id"], []).append([x, y, x + width, y + height, entry["score"]])
    rows = {image_id: np.array(boxes, np.float64) for image_id, boxes in found.items()}
    return {image_id: (row[:, :4].astype(np.float32), row[:, 4].astype(np.float32)) for image_id, row in rows.items()}


def _read_json(path: str | Path) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AnnotationError(f"{path}: expected a JSON file, found none; check the path") from None
    except (OSError, ValueError) as problem:
        raise AnnotationError(f"{path}: expected a JSON file, found something else ({problem})") from problem


def _person_category(content: dict[str, Any], path: str | Path) -> int:
    """The category named person; the only one when there is one; 1 (COCO's) when the file lists none."""
    categories = content.get("categories") or [{"id": 1, "name": "person"}]
    if not isinstance(categories, list) or not all(
        isinstance(c, dict) and isinstance(c.get("id"), int) for c in categories
    ):
        raise AnnotationError(
            f"{path}: expected categories to be a list of objects with integer ids, found {_short(categories)}"
        )
    people = [category["id"] for category in categories if category.get("name") == "person"]
    if not people and len(categories) > 1:
        names = ", ".join(str(category.get("name")) for category in categories)
        raise AnnotationError(f"{path}: expected a category named person, found {names}")
    return people[0] if people else categories[0]["id"]


def _complete(
    annotation: dict[str, Any], number: int, category_id: int, num_keypoints: int, where: str
) -> dict[str, Any]:
    keypoints = _keypoints(annotation, num_keypoints, where, required=False)
    triples = np.array(keypoints).reshape(-1, 3)
    labelled = triples[triples[:, 2] > 0, :2]
    box = annotation.get("bbox")
    if box is None and len(labelled):
        box = [*labelled.min(axis=0).tolist(), *np.ptp(labelled, axis=0).tolist()]
    if not _is_numbers(box, 4):
        raise AnnotationError(f"{where}: expected bbox (x, y, width, height), found {_short(box)}")
    area = annotation.get("area")
    if area is None:
        area = AREA_OF_BOX * box[2] * box[3]
    if not _is_number(area):
        raise AnnotationError(f"{where}: expected a finite area, found {_short(area)}")
    # COCO-WholeBody counts the body alone, so a count of the file is only taken for 17 keypoints.
    given = annotation.get("num_keypoints") if num_keypoints != sum(WHOLEBODY_FIELDS.values()) else None
    return {
        "id": number,  # from 1: pycocotools takes a match with annotation 0 for no match
        "image_id": annotation["image_id"],
        "category_id": category_id,
        "bbox": list(box),
        "area": area,
        "area_is_estimate": annotation.get("area") is None or bool(annotation.get("area_is_estimate")),
        "keypoints": keypoints,
        "num_keypoints": int(given) if isinstance(given, int) else len(labelled),
        "iscrowd": int(annotation.get("iscrowd") or 0),
    }


def _keypoints(entry: dict[str, Any], num_keypoints: int, where: str, *, required: bool) -> list[float]:
    """The flat K triples of an annotation or result; without the field: all unlabelled, unless `required`."""
    spread = num_keypoints == sum(WHOLEBODY_FIELDS.values()) and len(entry.get("keypoints") or ()) != 3 * num_keypoints
    fields = WHOLEBODY_FIELDS if spread else {"keypoints": num_keypoints}
    joined: list[float] = []
    for name, count in fields.items():
        values = entry.get(name)
        if values is None and not required:
            values = [0.0] * (3 * count)
        if not _is_numbers(values, 3 * count):
            found = f"{len(values)} values" if isinstance(values, list) else _short(values)
            raise AnnotationError(
                f"{where}: expected {name} to hold {count} finite triples ({3 * count} numbers), found {found}"
            )
        joined.extend(values)
    return joined


def _spread(keypoints: list[float]) -> dict[str, list[float]]:
    if len(keypoints) != 3 * sum(WHOLEBODY_FIELDS.values()):
        return {"keypoints": keypoints}
    stops = np.cumsum([3 * count for count in WHOLEBODY_FIELDS.values()]).tolist()
    return {name: keypoints[start:stop] for name, start, stop in zip(WHOLEBODY_FIELDS, [0, *stops], stops)}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _is_numbers(values: Any, count: int) -> bool:
    return isinstance(values, list) and len(values) == count and all(map(_is_number, values))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
