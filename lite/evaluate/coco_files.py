"""COCO annotation files, checked and completed so that scoring them cannot stumble."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lite.errors import AnnotationError
from lite.evaluate.json_values import WHOLEBODY_FIELDS, flat_keypoints, is_area, is_numbers, read_json, short

AREA_OF_BOX = 0.53  # share of its box a person covers, where the file gives no area (AI Challenger's own rule)


@dataclass(frozen=True, kw_only=True)
class KeypointTruth:
    """Ground truth of one annotation file.

    Attributes:
        images: the entries of the file, `id` and `file_name` among them.
        people: annotations of the person category, complete: `id` from 1, `image_id`, `category_id`, `bbox` xywh px,
            `area` px^2, `area_is_estimate` where the file does not give it or says so, `keypoints` flat x, y,
            visibility of all K, `num_keypoints`, `iscrowd`. Of MPII also `head_size` px and `center` (x, y) px.
        category_id: of the person category.
        num_keypoints: K.
        square_boxes: the boxes are squares and may lie outside their picture; only of MPII.
    """

    images: list[dict[str, Any]]
    people: list[dict[str, Any]]
    category_id: int
    num_keypoints: int
    square_boxes: bool = False

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
        images = [image for image in self.images if image["id"] in image_ids]
        people = [person for person in self.people if person["image_id"] in image_ids]
        return replace(self, images=images, people=people)


def read_truth(path: str | Path, num_keypoints: int) -> KeypointTruth:
    """Read a COCO keypoint annotation file (COCO-WholeBody for 133 keypoints); see `parse_truth`."""
    return parse_truth(read_json(path), path, num_keypoints)


def parse_truth(content: Any, path: str | Path, num_keypoints: int, *, area_of_box: bool = False) -> KeypointTruth:
    """The ground truth of a COCO keypoint annotation file.

    Args:
        content: of the file.
        path: of the file, for messages.
        num_keypoints: K.
        area_of_box: people's areas follow from their boxes, whatever the file says (AI Challenger, CrowdPose).

    Raises:
        AnnotationError: it is no COCO annotation file, or an annotation does not fit.
    """
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
                f"{path}: expected every image to have an integer id and a file_name, found {short(image)}"
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
            raise AnnotationError(f"{path}: expected every annotation to be an object, found {short(annotation)}")
        own_id = annotation.get("id")
        where = f"{path}: annotation {short(own_id)}"
        if not isinstance(own_id, int | float | str | None) or (own_id is not None and own_id in seen):
            raise AnnotationError(f"{where}: expected each id once, found it twice or a list; make the ids unique")
        seen.add(own_id)
        if annotation.get("category_id", category_id) != category_id:
            continue
        if not isinstance(annotation.get("image_id"), int) or annotation["image_id"] not in image_ids:
            raise AnnotationError(
                f"{where}: expected the id of an image of the file, found {short(annotation.get('image_id'))}"
            )
        if area_of_box:
            annotation = {name: value for name, value in annotation.items() if name != "area"}
        people.append(_complete(annotation, len(people) + 1, category_id, num_keypoints, where))
    return KeypointTruth(
        images=content["images"],
        people=people,
        category_id=category_id,
        num_keypoints=num_keypoints,
    )


def _person_category(content: dict[str, Any], path: str | Path) -> int:
    """The category named person; the only one when there is one; 1 (COCO's) when the file lists none."""
    categories = content.get("categories") or [{"id": 1, "name": "person"}]
    if not isinstance(categories, list) or not all(
        isinstance(c, dict) and isinstance(c.get("id"), int) for c in categories
    ):
        raise AnnotationError(
            f"{path}: expected categories to be a list of objects with integer ids, found {short(categories)}"
        )
    people = [category["id"] for category in categories if category.get("name") == "person"]
    if not people and len(categories) > 1:
        names = ", ".join(str(category.get("name")) for category in categories)
        raise AnnotationError(f"{path}: expected a category named person, found {names}")
    return people[0] if people else categories[0]["id"]


def _complete(
    annotation: dict[str, Any], number: int, category_id: int, num_keypoints: int, where: str
) -> dict[str, Any]:
    keypoints = flat_keypoints(annotation, num_keypoints, where, required=False)
    triples = np.array(keypoints).reshape(-1, 3)
    labelled = triples[triples[:, 2] > 0, :2]
    box = annotation.get("bbox")
    if box is None and len(labelled):
        box = [*labelled.min(axis=0).tolist(), *np.ptp(labelled, axis=0).tolist()]
    if not is_numbers(box, 4):
        raise AnnotationError(f"{where}: expected bbox (x, y, width, height), found {short(box)}")
    area = annotation.get("area")
    if area is None:
        area = AREA_OF_BOX * max(box[2], 0) * max(box[3], 0)
    elif not is_area(area):
        raise AnnotationError(f"{where}: expected a finite area of at least 0 px^2, found {short(area)}")
    if (crowd := annotation.get("iscrowd") or 0) not in (0, 1):
        raise AnnotationError(f"{where}: expected iscrowd to be 0 or 1, found {short(crowd)}")
    # COCO-WholeBody counts the body alone, so a count of the file is only taken of bodies.
    given = annotation.get("num_keypoints") if num_keypoints < sum(WHOLEBODY_FIELDS.values()) else None
    return {
        "id": number,  # from 1: pycocotools takes a match with annotation 0 for no match
        "image_id": annotation["image_id"],
        "category_id": category_id,
        "bbox": list(box),
        "area": area,
        "area_is_estimate": annotation.get("area") is None or bool(annotation.get("area_is_estimate")),
        "keypoints": keypoints,
        "num_keypoints": min(max(given, 0), len(labelled)) if isinstance(given, int) else len(labelled),
        "iscrowd": int(crowd),
    }
