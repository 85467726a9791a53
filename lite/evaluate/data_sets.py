"""Which data set an annotation file is: what its keypoints mean, how areas are found, which numbers are reported."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lite.errors import AnnotationError
from lite.evaluate.coco_files import KeypointTruth, parse_truth
from lite.evaluate.json_values import GOLIATH_FIELD, read_json
from lite.evaluate.mpii_files import parse_mpii
from lite.skeletons import Skeleton, load_skeleton


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """The rules of one data set.

    Attributes:
        name: as `--dataset` takes it.
        skeleton: of its annotations.
        metric: "oks" (COCO's ten numbers), "crowd" (CrowdPose's nine) or "pckh".
        area_of_box: the area of a person is a share of the box, whatever the file says.
    """

    name: str
    skeleton: str
    metric: Literal["oks", "crowd", "pckh"] = "oks"
    area_of_box: bool = False


DATA_SETS = {
    data_set.name: data_set
    for data_set in (
        DataSet(name="coco", skeleton="coco17"),
        DataSet(name="wholebody", skeleton="wholebody133"),
        DataSet(name="crowdpose", skeleton="crowdpose14", metric="crowd", area_of_box=True),
        DataSet(name="ochuman", skeleton="coco17"),
        DataSet(name="aic", skeleton="aic14", area_of_box=True),
        DataSet(name="mpii", skeleton="mpii16", metric="pckh"),
        DataSet(name="goliath308", skeleton="goliath308"),
    )
}
_BY_COUNT = {17: "coco", 133: "wholebody", 308: "goliath308", 16: "mpii"}
_FIRST_OF_14 = {"right_shoulder": "aic", "left_shoulder": "crowdpose"}  # first keypoint -> data set


def open_truth(
    path: str | Path, name: str = "auto", skeleton: str | None = None, heads: str | Path | None = None
) -> tuple[DataSet, Skeleton, KeypointTruth]:
    """Read an annotation file.

    Args:
        path: of it.
        name: of the data set; "auto" takes what the content says.
        skeleton: of the predictions; None takes the data set's.
        heads: file of head sizes, see `mpii_files`; only for MPII.

    Raises:
        AnnotationError: the file breaks its format, its data set cannot be told, or skeleton and annotations do not
            fit.
    """
    content = read_json(path)
    data_set = DATA_SETS[recognise(content, path, skeleton) if name == "auto" else name]
    # COCO's own rules serve any skeleton; the body of COCO-WholeBody is COCO's.
    wanted = skeleton or data_set.skeleton
    if data_set.name == "wholebody" and wanted == "coco17":
        data_set = DATA_SETS["coco"]
    if wanted != data_set.skeleton and data_set.name != "coco":
        raise AnnotationError(
            f"{path}: expected predictions of {data_set.skeleton}, which {data_set.name} annotates, found {wanted}; "
            "take a network or annotations that fit, or name --dataset"
        )
    meaning = load_skeleton(wanted)
    if data_set.metric == "pckh":
        return data_set, meaning, parse_mpii(content, path, heads)
    count = meaning.num_keypoints
    annotated = _count_keypoints(content)
    if annotated not in (None, count) and not (annotated == 133 and count == 17):
        raise AnnotationError(
            f"{path}: expected annotations of {count} keypoints ({wanted}), found {annotated}; take a network or "
            "annotations that fit"
        )
    return data_set, meaning, parse_truth(content, path, count, area_of_box=data_set.area_of_box)


def recognise(content: Any, path: str | Path, skeleton: str | None = None) -> str:
    """Name of the data set that a file's content is of; `skeleton` decides where the content leaves it open.

    Raises:
        AnnotationError: it cannot be told.
    """
    if isinstance(content, list) and (not content or (isinstance(content[0], dict) and "joints" in content[0])):
        return "mpii"
    if not isinstance(content, dict):
        return "coco"  # whose reader says what is wrong
    images = content.get("images")
    if isinstance(images, list) and any(isinstance(image, dict) and "crowdIndex" in image for image in images):
        return "crowdpose"
    count = _count_keypoints(content)
    if count == 14:
        first = _FIRST_OF_14.get(_first_keypoint_name(content))
        by_skeleton = {DATA_SETS[known].skeleton: known for known in _FIRST_OF_14.values()}.get(skeleton or "")
        if first or by_skeleton:
            return first or by_skeleton or ""
    elif count in (None, 17) and "ochuman" in Path(path).name.lower():
        return "ochuman"
    elif count is None and skeleton:  # boxes alone, or nobody: nothing to tell it by
        return next((known.name for known in DATA_SETS.values() if known.skeleton == skeleton), "coco")
    elif count in _BY_COUNT or count is None:
        return _BY_COUNT.get(count or 17, "coco")
    if skeleton and load_skeleton(skeleton).num_keypoints == count:
        return "coco"
    raise AnnotationError(
        f"{path}: expected annotations of a data set out of {', '.join(DATA_SETS)}, found {count} keypoints a person; "
        "name --dataset"
    )


def parts_of(skeleton: Skeleton) -> dict[str, list[int]]:
    """Part -> its keypoints; what stands in no part (the wrists of 308 keypoints) belongs to the body."""
    parts = {name: list(range(*ends)) for name, ends in skeleton.parts.items()}
    rest = set(range(skeleton.num_keypoints)) - {k for part in parts.values() for k in part}
    return {name: part + sorted(rest) if name == "body" else part for name, part in parts.items()}


def _count_keypoints(content: Any) -> int | None:
    """Keypoints of a person, as the annotations say; None when none has any."""
    annotations = content.get("annotations") if isinstance(content, dict) else None
    for annotation in annotations if isinstance(annotations, list) else ():
        if not isinstance(annotation, dict):
            continue
        if isinstance(annotation.get(GOLIATH_FIELD), list):
            return len(annotation[GOLIATH_FIELD]) // 3
        if "foot_kpts" in annotation:
            return 133
        if isinstance(annotation.get("keypoints"), list) and annotation["keypoints"]:
            return len(annotation["keypoints"]) // 3
    return None


def _first_keypoint_name(content: dict[str, Any]) -> str:
    categories = content.get("categories")
    for category in categories if isinstance(categories, list) else ():
        names = category.get("keypoints") if isinstance(category, dict) else None
        if isinstance(names, list) and names:
            return str(names[0]).lower().replace(" ", "_")
    return ""
