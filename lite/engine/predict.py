"""Predicted people of annotated pictures, by running the stages over them."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lite.artifact import CropRule
from lite.assemble import join, not_finite
from lite.crop import padded
from lite.datasets.image_store import ImageStore
from lite.detect import GivenBoxes
from lite.engine.pipeline import Pipeline
from lite.errors import AnnotationError, InputError
from lite.evaluate.boxes import Boxes, truth_boxes
from lite.evaluate.coco_files import KeypointTruth
from lite.evaluate.submit import PredictedPerson
from lite.structures import Detections, Frame, Poses, Record

Finder = Callable[[Sequence[Frame]], Detections]


@dataclass(kw_only=True)
class Predictions:
    """What was predicted for the pictures of an annotation file.

    Attributes:
        people: of all pictures.
        boxes_of: image id -> boxes xyxy px and scores that people were looked for in, pictures with an error left out.
        failures: file name -> why the picture could not be used.
        missing: pictures without a result; only of results that existed already.
    """

    people: list[PredictedPerson] = field(default_factory=list)
    boxes_of: dict[int, Boxes] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def add(
        self, image_id: int, keypoints: np.ndarray, keypoint_scores: np.ndarray, boxes: Boxes, scales: np.ndarray
    ) -> None:
        """Take the people of one picture: (P, K, 2) px, (P, K), their boxes, and (P, 2) size of the padded boxes px."""
        self.boxes_of[image_id] = boxes
        for number in range(len(keypoints)):
            person = PredictedPerson(
                image_id=image_id,
                person_id=number,
                keypoints=keypoints[number],
                keypoint_scores=keypoint_scores[number],
                box_score=float(boxes[1][number]),
                area=float(scales[number].prod()),
            )
            self.people.append(person)


def truth_finder(truth: KeypointTruth, *, inclusive: bool = False) -> Finder:
    """The annotated boxes of each frame with score 1: of everybody as they are for MPII, else see `truth_boxes`."""
    image_of = {image["file_name"]: image["id"] for image in truth.images}

    def boxes_in(frame: Frame) -> np.ndarray:
        people = truth.people_of(image_of[frame.source])
        if not truth.square_boxes:
            return truth_boxes(people, frame.size_hw, inclusive=inclusive)
        boxes = np.array([person["bbox"] for person in people], np.float64)
        return np.column_stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]).astype(np.float32)

    def find(frames: Sequence[Frame]) -> Detections:
        boxes = [boxes_in(frame) for frame in frames]
        scores = [np.ones(len(one), np.float32) for one in boxes]
        return GivenBoxes({frame.source: pair for frame, *pair in zip(frames, boxes, scores)})(frames)

    return find


def boxes_finder(truth: KeypointTruth, boxes_of: dict[int, Boxes]) -> Finder:
    """Boxes of a detection file, as they are.

    Raises:
        AnnotationError: none of them belongs to a picture of the annotations.
    """
    name_of = {image["id"]: image["file_name"] for image in truth.images}
    given = {name_of[image_id]: boxes for image_id, boxes in boxes_of.items() if image_id in name_of}
    if boxes_of and not given:
        raise AnnotationError(
            "boxes: expected detections of the annotated pictures, found none; do the files belong together?"
        )
    return GivenBoxes(given)


def predict(
    truth: KeypointTruth,
    store: ImageStore,
    pipeline: Pipeline,
    find: Finder,
    *,
    frame_batch: int,
    advance: Callable[[int], None] = lambda _: None,
) -> Predictions:
    """Run the stages over every picture.

    Args:
        truth: names the pictures.
        store: holds them.
        pipeline: the stages after detection.
        find: frames -> boxes; not asked by a network that needs none.
        frame_batch: pictures handled together.
        advance: told the number of pictures done since the last call.

    Raises:
        InputError: not one of the pictures can be read.
    """
    result = Predictions()
    for frames, image_ids, failures in read_batches(truth.images, store, frame_batch):
        result.failures.update(failures)
        if pipeline.pose.spec.task == "pose-bottom-up":
            _add_records(result, pipeline(frames), image_ids, truth.num_keypoints)
        else:
            _add_poses(result, pipeline, frames, find(frames), image_ids)
        advance(len(image_ids) + len(failures))
    refuse_unreadable(result.failures, len(truth.images))
    return result


def refuse_unreadable(failures: dict[str, str], total: int) -> None:
    """Raise InputError when not one of `total` pictures could be used."""
    if total and len(failures) == total:
        name, problem = next(iter(failures.items()))
        raise InputError(f"images: expected the annotated pictures, could read none of {total} ({name}: {problem})")


def _add_poses(
    result: Predictions,
    pipeline: Pipeline,
    frames: Sequence[Frame],
    detections: Detections,
    image_ids: Sequence[int],
) -> None:
    """Run the stages after detection over a frame batch."""
    rule, input_hw = pipeline.pose.spec.crop or CropRule(), pipeline.pose.spec.input_hw
    portions = pipeline.crop(frames, detections)
    poses: Poses = join([pipeline.assemble(pipeline.forward(crops), crops) for crops in portions])
    _, scales = padded(poses.boxes, input_hw, rule)
    for position, image_id in enumerate(image_ids):
        mine = np.flatnonzero(poses.frame_of == position)
        if not (np.isfinite(poses.keypoints[mine]).all() and np.isfinite(poses.keypoint_scores[mine]).all()):
            result.failures[frames[position].source] = not_finite(["pose"])
            continue
        boxes = poses.boxes[mine], poses.scores[mine]
        result.add(image_id, poses.keypoints[mine], poses.keypoint_scores[mine], boxes, scales[mine])


def _add_records(result: Predictions, records: Sequence[Record], image_ids: Sequence[int], num_keypoints: int) -> None:
    """People of a network that needs no boxes; their own box counts as the size."""
    for record, image_id in zip(records, image_ids):
        if record.error is not None:
            result.failures[record.source] = record.error
            continue
        people = record.people
        boxes = np.array([person["bbox"][0] for person in people], np.float32).reshape(-1, 4)
        scores = np.array([person["bbox_score"] for person in people], np.float32)
        keypoints = np.array([person["keypoints"] for person in people], np.float32).reshape(-1, num_keypoints, 2)
        keypoint_scores = np.array([person["keypoint_scores"] for person in people], np.float32)
        sizes = boxes[:, 2:] - boxes[:, :2]
        result.add(image_id, keypoints, keypoint_scores.reshape(-1, num_keypoints), (boxes, scores), sizes)


def read_batches(
    images: Sequence[dict[str, Any]], store: ImageStore, frame_batch: int
) -> Iterator[tuple[list[Frame], list[int], dict[str, str]]]:
    """Frames, their image ids, and what could not be read, the next batch being read while one is worked on.

    Args:
        images: `id` and `file_name` of each.
        store: holds them.
        frame_batch: pictures read together.
    """

    def read(image: dict) -> Frame | InputError:
        try:
            return Frame(pixels=store.read(image["file_name"]), source=image["file_name"])
        except InputError as problem:
            return problem

    def submit(start: int) -> list:
        return [pool.submit(read, image) for image in images[start : start + frame_batch]]

    with ThreadPoolExecutor(2) as pool:
        waiting = submit(0)
        for start in range(0, len(images), frame_batch):
            done = [job.result() for job in waiting]
            waiting = submit(start + frame_batch)
            batch = images[start : start + frame_batch]
            good = [(frame, image["id"]) for frame, image in zip(done, batch) if isinstance(frame, Frame)]
            failures = {i["file_name"]: str(p) for p, i in zip(done, batch) if isinstance(p, InputError)}
            yield [frame for frame, _ in good], [image_id for _, image_id in good], failures
