"""Records as JSON, one file a picture in a superset of the field's layout, and results read back as arrays.

The standard `json` writes them, without indentation: 1.1 ms for ten people of 133 keypoints, indented 3.5 ms,
json-tricks 1.3 ms. Rounded numbers halve the size; a faster encoder would save under a hundredth of a picture's time.
"""

import dataclasses
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lite.artifact import ArtifactSpec
from lite.errors import AnnotationError
from lite.skeletons import Skeleton
from lite.structures import Record
from lite.writers.atomic import write_bytes

RUN_SCHEMA = "hpe-lite/run/1"
LABEL_MAP_SUFFIX = ".labels.png"
KEYPOINT_KEYS = ("keypoints", "keypoint_scores")


class RecordWriter:
    """Writes records of one run.

    Args:
        skeleton: what the keypoints mean; None without a keypoint network.
        model: who made them, as `describe_model` gives it.
        labels: the spec of the segmentation network whose label maps lie beside the files; None without one.
    """

    def __init__(self, skeleton: Skeleton | None, model: dict[str, Any], labels: ArtifactSpec | None = None) -> None:
        meta = _meta_info(skeleton) if skeleton else {}
        if labels is not None:
            meta |= {"label_names": labels.labels, "label_palette": labels.palette}
        # Equal in every file of a run and, with 308 keypoints, longer than a picture's result: encoded once.
        self._tail = f',\n"model": {_encode(model)},\n"meta_info": {_encode(meta)}}}\n'

    def encode(self, record: Record) -> str:
        """The file's text: strict JSON, one person a line."""
        height, width = record.size_hw or (None, None)
        head = {
            "schema": record.schema,
            "source": record.source,
            "index": record.index,
            "time_s": record.time_s,
            "image_size": {"width": width, "height": height},
            "error": record.error,
        }
        head |= {name: value for name in ("areas", "classes") if (value := getattr(record, name)) is not None}
        people = ",\n".join(_encode(person) for person in record.people)
        return f'{_encode(head)[:-1]},\n"instance_info": [\n{people}\n]{self._tail}'

    def write(self, path: Path, record: Record) -> None:
        """Write one record, complete or not at all.

        Raises:
            ConfigError: the place cannot be written.
        """
        write_bytes(path, to_bytes(self.encode(record)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Results:
    """The result of one picture as arrays.

    Attributes:
        source: the picture, as the run named it; the result file's name where it does not say.
        keypoints: (P, K, 2) float32, px of the picture; K is 0 where people have none. keypoint_scores: (P, K) float32.
        boxes: (P, 4) float32 xyxy, px of the picture; NaN where the file has none.
        scores: (P,) float32 of the boxes; NaN where the file has none.
        size_hw: (H, W) of the picture in px, or None.
        error: why the picture has no result, or None.
        keypoint_names: K names; empty where the file has none.
        areas: class name -> px of the picture; None where the file has none.
        person_areas: the same of each person who has them; others have none ({}).
        classes: `label`, `name` and `score` of each class of the picture, likeliest first; None as well.
        label_map: the palette PNG beside the file, for `lite.load_label_map`; None where there is none.
        label_names: of its labels; empty where the file has none.
    """

    source: str
    keypoints: np.ndarray
    keypoint_scores: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    size_hw: tuple[int, int] | None = None
    error: str | None = None
    keypoint_names: tuple[str, ...] = ()
    areas: dict[str, int] | None = None
    person_areas: tuple[dict[str, int], ...] = ()
    classes: tuple[dict[str, Any], ...] | None = None
    label_map: Path | None = None
    label_names: tuple[str, ...] = ()


def load_results(path: str | os.PathLike[str]) -> list[Results]:
    """Read results back.

    Args:
        path: a JSON file of ours, of any kinds of networks, or of the field's plain form (`instance_info` with
            `keypoints` and `keypoint_scores`); or a folder of them, read with its subfolders in natural order.

    Returns:
        One entry a picture.

    Raises:
        AnnotationError: nothing there, or a file that is no such JSON.
    """
    path = Path(path)
    if path.is_file():
        return [_results(path, _parse(path))]
    if not path.is_dir():
        raise AnnotationError(f"{path}: expected a result file or a folder of them, found nothing there")
    files = sorted(path.rglob("*.json"), key=_natural)
    parsed = ((file, _parse(file)) for file in files if not file.name.startswith("."))
    found = [_results(file, value) for file, value in parsed if not _is_run(value)]
    if not found:
        raise AnnotationError(f"{path}: expected result files ending in .json, found none")
    return found


def describe_model(spec: ArtifactSpec) -> dict[str, Any]:
    """What a result should say about the network that made it."""
    names = ("model", "task", "mode", "format", "input_hw", "flip_test", "licence", "sha256", "source_sha256")
    return {name: getattr(spec, name) for name in names}


def _meta_info(skeleton: Skeleton) -> dict[str, Any]:
    """The skeleton under the names the field's demos use."""
    names = skeleton.keypoint_names
    return {
        "dataset_name": skeleton.name,
        "num_keypoints": len(names),
        "keypoint_id2name": dict(enumerate(names)),
        "keypoint_name2id": {name: n for n, name in enumerate(names)},
        "skeleton_links": skeleton.links,
        "skeleton_link_colors": skeleton.link_colors,
        "keypoint_colors": skeleton.keypoint_colors,
        "flip_indices": skeleton.flip_indices,
        "sigmas": skeleton.oks_sigmas,
    }


def _encode(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _parse(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as problem:
        raise AnnotationError(f"{path}: expected a result file in JSON, found something else ({problem})") from None


def _is_run(value: Any) -> bool:
    return isinstance(value, dict) and value.get("schema") == RUN_SCHEMA


def _results(path: Path, value: Any) -> Results:
    people = value.get("instance_info") if isinstance(value, dict) else None
    if not isinstance(people, list):
        raise AnnotationError(f"{path}: expected an object with instance_info, a list of people; found none")
    meta, size = (_object(value.get(name)) for name in ("meta_info", "image_size"))
    names = tuple(_object(meta.get("keypoint_id2name")).values())
    p, k = len(people), meta.get("num_keypoints", len(names))
    try:
        pointless = all("keypoints" not in person and "bbox" in person for person in people)
        k = k if not people else 0 if pointless else len(people[0]["keypoints"])
        points = ([], []) if pointless else [[person[key] for person in people] for key in KEYPOINT_KEYS]
        nowhere = [[float("nan")] * 4]
        with np.errstate(over="raise"):
            keypoints = np.array(points[0], np.float32).reshape(p, k, 2)
            point_scores = np.array(points[1], np.float32).reshape(p, k)
            boxes = np.array([person.get("bbox", nowhere) for person in people], np.float32).reshape(p, 4)
            scores = np.array([person.get("bbox_score", float("nan")) for person in people], np.float32).reshape(p)
        classes = value.get("classes")
        found = {
            "areas": None if value.get("areas") is None else dict(value["areas"]),
            "person_areas": tuple(dict(person.get("areas", {})) for person in people),
            "classes": None if classes is None else tuple(dict(one) for one in classes),
            "label_names": tuple(meta.get("label_names", ())),
        }
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as problem:
        raise AnnotationError(
            f"{path}: expected the same number of keypoints [x, y] and keypoint_scores for every person, "
            f"found something else ({problem})"
        ) from None
    label_map = path.with_suffix(LABEL_MAP_SUFFIX)
    return Results(
        source=value["source"] if isinstance(value.get("source"), str) else path.name,
        keypoints=keypoints,
        keypoint_scores=point_scores,
        boxes=boxes,
        scores=scores,
        size_hw=(size["height"], size["width"]) if size.get("height") and "width" in size else None,
        error=value.get("error"),
        keypoint_names=names,
        label_map=label_map if found["label_names"] and label_map.is_file() else None,
        **found,
    )


def _object(value: Any) -> dict[str, Any]:
    """An object of JSON; nothing in it where a file of others has something else there."""
    return value if isinstance(value, dict) else {}


def write_run(path: Path, values: dict[str, Any]) -> None:
    """Write `run.json`: the resolved configuration and what came of it."""
    text = json.dumps({"schema": RUN_SCHEMA, **values}, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    write_bytes(path, to_bytes(text + "\n"))


def to_bytes(text: str) -> bytes:
    """JSON text as UTF-8; bytes of a file name that are none become JSON escapes and come back as the same name."""
    return text.encode(errors="backslashreplace")


def _plain(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else str(value)


def _natural(path: Path) -> list[tuple[int, int, str]]:
    parts = re.split(r"([0-9]+)", path.as_posix())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part.lower()) for part in parts if part]
