"""MPII annotation files (a list of people) and the head sizes its score is measured in.

Head sizes come from a file beside the annotations or one that is named:

    mpii_gt_val.mat    MPII's own; its joints and their visibility then count, as in the original evaluation
    *.json             a list, one entry a person in the order of the annotations: the head box [x1, y1, x2, y2] px
    *.csv              one line a person: x1,y1,x2,y2; a first line of names is left out

Source: ViTPose `topdown_mpii_dataset.py`; boxes: centre and scale (unit 200 px), moved down by 15 px a unit of scale.
"""

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np

from lite.errors import AnnotationError
from lite.evaluate.coco_files import AREA_OF_BOX, KeypointTruth
from lite.evaluate.json_values import LARGEST, is_number, is_numbers, read_json, short
from lite.evaluate.mat_file import read_mat

NUM_KEYPOINTS = 16
SCALE_PX, DOWN_PX, PADDING = 200.0, 15.0, 1.25
HEAD_SHARE = 0.6  # of the head box's diagonal
HEAD_FILES = ("mpii_gt_val.mat", "mpii_heads.json", "mpii_heads.csv")
_JOINTS = "rank rkne rhip lhip lkne lank pelv thor neck head rwri relb rsho lsho lelb lwri"


def parse_mpii(content: Any, path: str | Path, heads: str | Path | None = None) -> KeypointTruth:
    """The ground truth of an MPII annotation file; positions become 0-based px, boxes the squares of the original.

    Args:
        content: of the file.
        path: of the file.
        heads: file of head sizes; None looks beside the annotations.

    Raises:
        AnnotationError: a file breaks its format, or no head sizes were found.
    """
    if not isinstance(content, list):
        raise AnnotationError(f"{path}: expected an MPII annotation file (a list of people), found another JSON")
    image_ids: dict[str, int] = {}
    people = []
    for number, entry in enumerate(content):
        person = _person(entry, f"{path}: entry {number}")
        image_id = image_ids.setdefault(entry["image"], len(image_ids) + 1)
        people.append(person | {"id": number + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0})
    _add_heads(people, Path(path), heads)
    images = [{"id": image_id, "file_name": name} for name, image_id in image_ids.items()]
    return KeypointTruth(images=images, people=people, category_id=1, num_keypoints=NUM_KEYPOINTS, square_boxes=True)


def _person(entry: Any, where: str) -> dict[str, Any]:
    if not isinstance(entry, dict) or not isinstance(entry.get("image"), str):
        raise AnnotationError(f"{where}: expected a person with image, center, scale and joints, found {short(entry)}")
    center, scale = entry.get("center"), entry.get("scale")
    if not is_numbers(center, 2) or not is_number(scale) or scale <= 0:
        raise AnnotationError(f"{where}: expected center (x, y) and a scale above 0, found {short((center, scale))}")
    joints, visible = entry.get("joints"), entry.get("joints_vis")
    whole = isinstance(joints, list) and len(joints) == NUM_KEYPOINTS and all(is_numbers(j, 2) for j in joints)
    if not whole or not is_numbers(visible, NUM_KEYPOINTS):
        raise AnnotationError(f"{where}: expected joints (16 pairs) and joints_vis (16 numbers), found others")
    side, (x, y) = SCALE_PX * scale, center
    if x == -1:  # as the original: a person without a centre is neither moved nor padded
        side /= PADDING
    else:
        y += DOWN_PX * scale
    box = [x - 1 - side / 2, y - 1 - side / 2, side, side]
    area = AREA_OF_BOX * side * side
    place = {"bbox": box, "area": area, "area_is_estimate": True, "center": [x - 1, y - 1]}
    return place | _keypoints(np.array(joints, np.float64), np.array(visible) > 0)


def _keypoints(one_based: np.ndarray, visible: np.ndarray) -> dict[str, Any]:
    triples = np.column_stack([one_based - 1, np.where(visible, 2.0, 0.0)])
    return {"keypoints": triples.ravel().tolist(), "num_keypoints": int(visible.sum())}


def _add_heads(people: list[dict[str, Any]], path: Path, heads: str | Path | None) -> None:
    """Give every person its `head_size` px, and with MPII's own file the joints that count."""
    found = Path(heads) if heads else next((p for n in HEAD_FILES if (p := path.with_name(n)).is_file()), None)
    if found is None or not found.is_file():
        raise AnnotationError(
            f"{found or path.parent}: expected a file of head sizes ({', '.join(HEAD_FILES)}), found none; name it "
            "with --heads"
        )
    reader = {".mat": _read_mat, ".json": _read_json, ".csv": _read_csv}.get(found.suffix.lower())
    if reader is None:
        raise AnnotationError(f"{found}: expected a .mat, .json or .csv file of head sizes, found {found.suffix!r}")
    boxes, joints = reader(found)
    if len(boxes) != len(people):
        raise AnnotationError(f"{found}: expected the heads of {len(people)} people, found {len(boxes)}")
    for number, (person, box) in enumerate(zip(people, boxes)):
        person["head_size"] = HEAD_SHARE * math.dist(box[:2], box[2:])
        if not person["head_size"] > 0:
            raise AnnotationError(f"{found}: expected a head box above 0 px for person {number}, found {box.tolist()}")
        if joints is not None:
            person |= _keypoints(joints[number, :, :2], joints[number, :, 2] > 0)


Heads = tuple[np.ndarray, np.ndarray | None]  # boxes (N, 4) xyxy px, joints (N, 16, 3) 1-based px and visibility


def _read_mat(path: Path) -> Heads:
    values = read_mat(path)
    names = ("headboxes_src", "pos_gt_src", "jnt_missing")
    missing = [name for name in names if not isinstance(values.get(name), np.ndarray)]
    if missing or not isinstance(values.get("dataset_joints"), list):
        lacking = ", ".join(missing or ["dataset_joints"])
        raise AnnotationError(f"{path}: expected MPII's .mat file, found none of {lacking} in it")
    joints = [short(joint).strip("'") for joint in values["dataset_joints"]]
    if joints != _JOINTS.split():
        raise AnnotationError(f"{path}: expected the joints {_JOINTS}, found {' '.join(joints)[:200]}")
    boxes, places, missed = (values[name].astype(np.float64) for name in names)
    count = boxes.shape[-1]
    if boxes.shape != (2, 2, count) or places.shape != (16, 2, count) or missed.shape != (16, count):
        raise AnnotationError(f"{path}: expected headboxes_src, pos_gt_src and jnt_missing of as many people each")
    places = np.where(missed[:, None] == 0, places, 0)  # what is not labelled may stand there as NaN
    if not all((np.abs(part) <= LARGEST).all() for part in (boxes, places, missed)):  # false for NaN
        raise AnnotationError(f"{path}: expected finite numbers in it, found others")
    seen = np.concatenate([places, 1 - missed[:, None]], axis=1)  # (16, 3, N)
    return boxes.reshape(4, count).T, np.moveaxis(seen, -1, 0)


def _read_json(path: Path) -> Heads:
    return _boxes(read_json(path), path), None


def _read_csv(path: Path) -> Heads:
    try:
        rows = [row for row in csv.reader(path.read_text(encoding="utf-8").splitlines()) if row]
        if rows and not _number(rows[0][0]):
            rows = rows[1:]
        values = [[float(cell) for cell in row] for row in rows]
    except (OSError, ValueError, csv.Error) as problem:
        raise AnnotationError(f"{path}: expected lines of x1,y1,x2,y2, found something else ({problem})") from problem
    return _boxes(values, path), None


def _boxes(values: Any, path: Path) -> np.ndarray:
    if not isinstance(values, list) or not all(is_numbers(box, 4) for box in values):
        raise AnnotationError(f"{path}: expected a head box of 4 numbers (x1, y1, x2, y2) for every person")
    return np.array(values, np.float64).reshape(-1, 4)


def _number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
