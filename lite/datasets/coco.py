"""COCO keypoint and box annotations: `read_coco` gives pictures and people, `labelled_people` those to learn from."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lite.errors import AnnotationError
from lite.skeletons import load_skeleton

LARGEST = 1e9  # px; beyond it no picture reaches, and areas would overflow
# COCO-WholeBody spreads its 133 points over five fields, in this order.
_KEYPOINT_FIELDS = {
    "wholebody133": ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts"),
}


@dataclass(frozen=True, kw_only=True)
class ImageInfo:
    """One picture: `size_hw` in px; `boxes_complete` False when people may be present without a box."""

    id: int
    file_name: str
    size_hw: tuple[int, int]
    boxes_complete: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Person:
    """One annotation.

    Attributes:
        annotation_id, image_id: as in the file.
        box: (4,) float32 xyxy, px of the picture, as annotated (not clipped).
        area: px^2, of the mask where known.
        keypoints: (K, 3) float32 x, y px and visibility 0 none, 1 hidden, 2 seen; zeros when the file has boxes only.
        is_crowd: a box round many people.
        num_keypoints: as the file counts them; counted here when it does not.
    """

    annotation_id: int
    image_id: int
    box: np.ndarray
    area: float
    keypoints: np.ndarray
    is_crowd: bool
    num_keypoints: int


@dataclass(frozen=True, kw_only=True, eq=False)
class CocoAnnotations:
    """One annotation file; `people` stand in the order of their pictures, then of the file."""

    path: Path
    skeleton: str
    images: list[ImageInfo]
    people: list[Person]

    def people_of(self) -> dict[int, list[Person]]:
        """Image id -> people; every picture has an entry."""
        found: dict[int, list[Person]] = {image.id: [] for image in self.images}
        for person in self.people:
            found[person.image_id].append(person)
        return found


def read_coco(path: str | Path, skeleton: str = "coco17") -> CocoAnnotations:
    """Read a COCO annotation file of people.

    Args:
        path: JSON with `images` and `annotations`.
        skeleton: name in `lite/skeletons`; the file's keypoints must be as many. "wholebody133" joins the five fields
            of COCO-WholeBody.

    Raises:
        AnnotationError: not such a file, or an entry that breaks the format; the message names it.
    """
    path = Path(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise AnnotationError(
            f"{path}: expected a COCO annotation file, cannot read it ({problem.strerror})"
        ) from problem
    except (ValueError, RecursionError) as problem:
        raise AnnotationError(f"{path}: expected a COCO annotation file, found no JSON ({problem})") from None
    if not isinstance(values, dict) or not all(isinstance(values.get(k), list) for k in ("images", "annotations")):
        found = ", ".join(map(str, list(values)[:6])) if isinstance(values, dict) else type(values).__name__
        raise AnnotationError(f"{path}: expected an object with lists `images` and `annotations`, found {found}")
    num_keypoints = len(load_skeleton(skeleton).keypoint_names)
    images = [_image(path, i, entry) for i, entry in enumerate(values["images"])]
    rank = {image.id: i for i, image in enumerate(images)}
    if len(rank) != len(images):
        raise AnnotationError(f"{path}: {len(images) - len(rank)} image ids stand twice in `images`; they must differ")
    fields = _KEYPOINT_FIELDS.get(skeleton, ("keypoints",))
    people = [_person(path, i, a, rank, fields, num_keypoints) for i, a in enumerate(values["annotations"])]
    people.sort(key=lambda person: rank[person.image_id])  # stable: file order within a picture
    return CocoAnnotations(path=path, skeleton=skeleton, images=images, people=people)


def labelled_people(annotations: CocoAnnotations) -> list[Person]:
    """People a pose network can learn from: no crowd, some labelled keypoint, a box with area; the box clipped.

    Source: record filter and clipping (to the last pixel) of the Sapiens training loader.
    """
    sizes = {image.id: image.size_hw for image in annotations.images}
    kept = []
    for person in annotations.people:
        if person.is_crowd or person.num_keypoints == 0 or not (person.keypoints[:, :2] > 0).any():
            continue
        height, width = sizes[person.image_id]
        box = np.clip(person.box, 0, np.array([width, height, width, height], np.float32) - 1)
        if box[2] > box[0] and box[3] > box[1]:
            kept.append(dataclasses.replace(person, box=box))
    return kept


def _image(path: Path, position: int, entry: Any) -> ImageInfo:
    try:
        size_hw = int(entry["height"]), int(entry["width"])
        image_id, file_name = entry["id"], entry["file_name"]
    except (TypeError, KeyError, ValueError, OverflowError) as problem:
        raise AnnotationError(
            f"{path}: images[{position}] needs id, file_name, width and height (problem with {problem})"
        ) from problem
    if (
        not 0 < min(size_hw) <= max(size_hw) <= LARGEST
        or not isinstance(image_id, int)
        or not isinstance(file_name, str)
    ):
        raise AnnotationError(f"{path}: images[{position}] needs a whole-number id, a file_name and sizes from 1 px on")
    return ImageInfo(
        id=image_id, file_name=file_name, size_hw=size_hw, boxes_complete=bool(entry.get("boxes_complete", True))
    )


def _person(
    path: Path, position: int, entry: Any, known: dict[int, int], fields: tuple[str, ...], num_keypoints: int
) -> Person:
    where = f"{path}: annotations[{position}]"
    image_id = entry.get("image_id") if isinstance(entry, dict) else None
    if not isinstance(image_id, int) or image_id not in known:
        found = image_id if isinstance(entry, dict) else entry
        raise AnnotationError(f"{where} needs the image_id of one of `images`, found {found!r:.60}")
    x, y, width, height = _numbers(where, "bbox", entry.get("bbox"), 4)
    keypoints = np.zeros((num_keypoints, 3), np.float32)
    if any(field in entry for field in fields):
        parts = [entry.get(field) or [] for field in fields]
        values = [v for part in parts for v in (part if isinstance(part, list) else [part])]
        keypoints = np.array(_numbers(where, " + ".join(fields), values, 3 * num_keypoints), np.float32).reshape(-1, 3)
    labelled = int((keypoints[:17, 2] > 0).sum()) if len(fields) > 1 else int((keypoints[:, 2] > 0).sum())
    return Person(
        annotation_id=int(_number(where, "id", entry.get("id"), position)),
        image_id=image_id,
        box=np.array([x, y, x + width, y + height], np.float32),
        area=_number(where, "area", entry.get("area"), width * height, LARGEST**2),
        keypoints=keypoints,
        is_crowd=bool(entry.get("iscrowd", 0)),
        num_keypoints=int(_number(where, "num_keypoints", entry.get("num_keypoints"), labelled)),
    )


def _numbers(where: str, name: str, values: Any, count: int) -> list[float]:
    """`values` as `count` finite floats."""
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        numbers = np.zeros(0)
    if numbers.shape != (count,) or not (np.abs(numbers) <= LARGEST).all():  # false for NaN
        found = len(values) if isinstance(values, list) else values
        raise AnnotationError(f"{where}: `{name}` needs {count} finite numbers, found {found!r:.60}")
    return numbers.tolist()


def _number(where: str, name: str, value: Any, default: float, largest: float = 2.0**63) -> float:
    """`value`, or `default` where the file has none."""
    value = default if value is None else value
    if not isinstance(value, int | float) or not -largest <= value <= largest:
        raise AnnotationError(f"{where}: `{name}` needs a finite number, found {value!r:.60}")
    return value
