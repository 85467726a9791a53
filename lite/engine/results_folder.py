"""Predicted people of annotated pictures, from the output folder of `infer`."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from lite.engine.predict import Predictions
from lite.errors import AnnotationError
from lite.evaluate.boxes import Boxes
from lite.evaluate.coco_files import KeypointTruth
from lite.evaluate.json_values import LARGEST
from lite.geometry import box_to_center_scale
from lite.writers.records import Results, load_results

# Results do not say which crop they came from; every network here pads by 1.25 to an upright 3:4 crop.
USUAL_PADDING, USUAL_INPUT_HW = 1.25, (256, 192)


def read_predictions(folder: Path, truth: KeypointTruth) -> Predictions:
    """People in a results folder of `infer`, matched to the annotated pictures by file name.

    Raises:
        AnnotationError: no result belongs to a picture of the annotations, or a person has not the annotated keypoints.
    """
    results = load_results(folder)
    by_name = _by_name(results)
    predictions = Predictions()
    for image in truth.images:
        result = _find(by_name, image["file_name"])
        if result is None:
            predictions.missing.append(image["file_name"])
        elif result.error:
            predictions.failures[image["file_name"]] = result.error
        else:
            if len(result.keypoints) and result.keypoints.shape[1] != truth.num_keypoints:
                raise AnnotationError(
                    f"{folder}: expected {truth.num_keypoints} keypoints, found {result.keypoints.shape[1]} "
                    f"for {image['file_name']}; name the right --skeleton"
                )
            boxes = _boxes(result)
            if not all(
                (np.abs(values) <= LARGEST).all() for values in (result.keypoints, result.keypoint_scores, *boxes)
            ):  # false for NaN
                predictions.failures[image["file_name"]] = "its result has keypoints or boxes that are not finite"
                continue
            _, scales = box_to_center_scale(boxes[0], USUAL_PADDING, USUAL_INPUT_HW)
            predictions.add(image["id"], result.keypoints, result.keypoint_scores, boxes, scales)
    if truth.images and len(predictions.missing) == len(truth.images):
        raise AnnotationError(
            f"{folder}: expected results of the annotated pictures, found {len(results)} of other pictures; "
            "results and annotations are matched by file name"
        )
    return predictions


def _by_name(results: Sequence[Results]) -> dict[str, list[Results]]:
    """File name without folder and ending -> its results: the plain form of the field names pictures no better."""
    found: dict[str, list[Results]] = {}
    for result in results:
        found.setdefault(PurePosixPath(result.source).stem, []).append(result)
    return found


def _find(by_name: dict[str, list[Results]], file_name: str) -> Results | None:
    """The result of one picture; among several of its name the one whose source ends most like it.

    Raises:
        AnnotationError: several fit equally.
    """
    candidates = by_name.get(PurePosixPath(file_name).stem, [])
    likeness = [_shared_end(PurePosixPath(result.source), PurePosixPath(file_name)) for result in candidates]
    best = [result for result, like in zip(candidates, likeness) if like == max(likeness)]
    if len(best) > 1:
        raise AnnotationError(
            f"{file_name}: expected one result, found {best[0].source} and {best[1].source}; remove one"
        )
    return best[0] if best else None


def _shared_end(a: PurePosixPath, b: PurePosixPath) -> int:
    """Number of last path parts that are equal."""
    pairs = zip(reversed(a.parts), reversed(b.parts))
    return next((n for n, (x, y) in enumerate(pairs) if x != y), min(len(a.parts), len(b.parts)))


def _boxes(result: Results) -> Boxes:
    """Boxes and scores; where the file has none, the extent of the keypoints and 1."""
    extent = np.concatenate([result.keypoints.min(axis=1), result.keypoints.max(axis=1)], axis=1)
    boxes = np.where(np.isnan(result.boxes), extent, result.boxes).astype(np.float32)
    return boxes, np.where(np.isnan(result.scores), 1.0, result.scores).astype(np.float32)
