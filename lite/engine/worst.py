"""The worst pictures of an evaluation, drawn: the truth on the left, the prediction on the right."""

import json
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from lite.datasets.image_store import ImageStore
from lite.draw import Style, draw
from lite.errors import InputError
from lite.evaluate.coco_files import KeypointTruth
from lite.evaluate.config import EvalConfig
from lite.evaluate.worst import PictureScore, pick_worst
from lite.skeletons import Skeleton
from lite.structures import Record
from lite.writers.atomic import write_bytes
from lite.writers.overlays import write_overlay
from lite.writers.records import to_bytes

GAP_PX = 8
WHITE = 255


def write_worst(
    config: EvalConfig, truth: KeypointTruth, skeleton: Skeleton, pictures: list[PictureScore]
) -> list[dict[str, Any]]:
    """Write `worst/NNN_name.jpg` and `worst/worst.json` into the output folder.

    Returns:
        The content of `worst.json`: picture, measure, value, people, reason and drawing of each, worst first; the
        drawing is null where the picture cannot be read.

    Raises:
        ConfigError: the folder cannot be written.
    """
    folder = Path(config.output) / "worst"
    assert config.images is not None  # checked by the config
    _remove_earlier(folder)
    described = []
    with ImageStore(config.images) as store:
        for rank, picture in enumerate(pick_worst(pictures, config.worst), start=1):
            name = f"{rank:03d}_{PurePosixPath(picture.file_name).stem}.jpg"
            try:
                pixels = store.read(picture.file_name)
            except InputError:  # already among the failures
                name = None
            else:
                write_overlay(folder / name, side_by_side(pixels, truth.people_of(picture.image_id), picture, skeleton))
            described.append(
                {
                    "picture": picture.file_name,
                    "measure": picture.measure,
                    "value": round(picture.value, 5),
                    "people": picture.people,
                    "reason": picture.reason,
                    "missed": picture.missed,
                    "invented": picture.invented,
                    "low": picture.low,
                    "drawing": name,
                }
            )
    write_bytes(folder / "worst.json", to_bytes(json.dumps(described, indent=2, ensure_ascii=False) + "\n"))
    return described


def _remove_earlier(folder: Path) -> None:
    """Delete the drawings that an earlier `worst.json` names, or they would mix with the new ones."""
    try:
        names = [entry["drawing"] for entry in json.loads((folder / "worst.json").read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, KeyError):
        return
    for name in names:
        if isinstance(name, str) and Path(name).name == name:
            (folder / name).unlink(missing_ok=True)


def side_by_side(
    pixels: np.ndarray, people: list[dict[str, Any]], picture: PictureScore, skeleton: Skeleton
) -> np.ndarray:
    """(H, 2 W + gap, 3) uint8 RGB: annotated people with their boxes, then predicted ones.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        people: annotated ones, crowds included.
        picture: predictions.
        skeleton: how people are drawn.
    """
    annotated = [np.array(person["keypoints"], np.float64).reshape(-1, 3) for person in people]
    boxes = [[x, y, x + w, y + h] for x, y, w, h in (person["bbox"] for person in people)]
    true_people = [_person(triples, box) for triples, box in zip(annotated, boxes)]
    extents = [np.concatenate([points[:, :2].min(axis=0), points[:, :2].max(axis=0)]) for points in picture.predicted]
    predicted = [_person(points, box.tolist()) for points, box in zip(picture.predicted, extents)]
    drawn = [
        draw(pixels, Record(source=picture.file_name, people=some), skeleton, Style(parts=parts))
        for some, parts in ((true_people, frozenset({"skeleton", "boxes"})), (predicted, frozenset({"skeleton"})))
    ]
    gap = np.full((pixels.shape[0], GAP_PX, 3), WHITE, np.uint8)
    return np.concatenate([drawn[0], gap, drawn[1]], axis=1)


def _person(triples: np.ndarray, box: list[float]) -> dict[str, Any]:
    return {
        "keypoints": triples[:, :2].tolist(),
        "keypoint_scores": np.minimum(triples[:, 2], 1).tolist(),  # visibilities 1 and 2 are drawn alike
        "bbox": [box],
        "bbox_score": 1.0,
    }
