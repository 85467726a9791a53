"""The flow on one device: frames -> detections -> crops -> raw -> poses, labels or classes -> records."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np

from lite.artifact import ArtifactSpec
from lite.assemble import to_records
from lite.backends import able_backends, open_backend
from lite.backends.base import Backend
from lite.detect import PersonDetector, WholeFrame
from lite.engine.map_pictures import map_pictures
from lite.engine.tasks import TASKS, Clock, Keypoints, Labels, PeopleBottomUp, Task, TaskOptions, Watcher, untimed
from lite.errors import ConfigError, ModelError
from lite.label_sets import LabelSet
from lite.segment import merge_labels, relabel, whole_frames
from lite.skeletons import load_skeleton
from lite.structures import Crops, Detections, Frame, Poses, Record, Result

DEFAULT_MODEL = "pose17-small"
DEFAULT_DETECTOR = "person-nano"

Model = str | Path | Backend | None
Kind = TypeVar("Kind", bound=Task)


class Pipeline:
    """People and their keypoints, labels or classes in frames, on one device.

    Args:
        model: zoo name, checkpoint, exported file or open backend of a network; None takes the built-in keypoints.
            Several, one of each kind (keypoints, segmentation, classification), share the detections.
        detector: likewise; None takes the built-in one where boxes are needed, "none" makes every whole frame one box.
            A segmentation network without one for keypoints from boxes takes whole frames unless a detector is named.
        device: "auto", "cpu", "cuda", "cuda:1", ...
        mode: "auto", "float32", "float16" or "bfloat16", for networks that run eagerly.
        backend: name in `lite.backends.BACKENDS`, for exported files that it can run; "auto" takes the fastest that is
            installed.
        batch_size: crops in one forward pass at most, from all frames of a call together; None follows the size of
            the network.
        bbox_thr, nms_thr, max_people: which detections count, as in `PersonDetector`.
        flip_test: average with the mirrored crop; None keeps what the model says.
        threads: processor threads of the networks.
        trust: whether files that can run code may be opened.
        det_config: config file of the detector, where its checkpoint needs one.
        labels: what a segmentation network's classes are called, where the network does not say or says otherwise.
        options: choices of single tasks.
        pictures: of "heatmaps" and "tags", which to draw of a bottom-up network's maps.

    Raises:
        ModelError: a model that is not known, cannot be used here, or does something else.
        ConfigError: two networks of one kind, or a detector, labels or pictures that do not fit them.
    """

    def __init__(
        self,
        model: Model | Sequence[Model] = None,
        detector: Model = None,
        device: str = "auto",
        mode: str = "auto",
        *,
        backend: str = "auto",
        batch_size: int | None = None,
        bbox_thr: float = 0.3,
        nms_thr: float = 0.3,
        max_people: int | None = None,
        flip_test: bool | None = None,
        threads: int | None = None,
        trust: bool = False,
        det_config: str | Path | None = None,
        labels: LabelSet | None = None,
        options: TaskOptions | None = None,
        pictures: frozenset[str] = frozenset(),
    ) -> None:
        where = {"device": device, "mode": mode, "threads": threads, "trust": trust}
        several = list(model) if isinstance(model, list | tuple) else [model]
        self.tasks: list[Task] = []
        self.person: Backend | None = None
        self.pictures = pictures
        try:
            for one in several or [None]:
                opened = _open(one or DEFAULT_MODEL, **where, backend=backend, flip_test=flip_test)
                self.tasks.append(_task(opened, batch_size, options or TaskOptions()))
            self._check(labels)
            if labels is not None:
                named = self.task(Labels)
                named.spec = relabel(named.spec, labels)
            if detector != "none" and (detector is not None or any(task.needs_boxes for task in self.tasks)):
                self._check_boxes()
                detector = detector or DEFAULT_DETECTOR
                # Backend and mode are asked for the first network; a detector that cannot have them takes its own.
                able = able_backends(detector) if isinstance(detector, str | Path) else {backend}
                own = where | {"mode": "auto"} if mode == "int8" and able == {"eager"} else where
                self.person = _open(detector, **own, backend=backend if backend in able else "auto", config=det_config)
            self.detect = PersonDetector(self.person, bbox_thr, nms_thr, max_people) if self.person else WholeFrame()
        except BaseException:
            self.close()
            raise
        self.batch_size = self.tasks[0].batch_size

    def __call__(self, frames: Sequence[Frame | np.ndarray]) -> list[Record]:
        """One record a frame, in order.

        Args:
            frames: frames, or (H, W, 3) uint8 RGB arrays, of any sizes; a list that fits in memory.
        """
        return [result.record for result in self.results(frames)]

    def results(self, frames: Sequence[Frame | np.ndarray], clock: Clock = untimed) -> list[Result]:
        """The same with the label map of each frame and the pictures of its maps; `clock` times the stages."""
        frames = [_frame(frame, n) for n, frame in enumerate(frames)]
        keypoints, bottom_up, labels, classes = (self.task(kind) for kind in TASKS.values())
        detections = None
        if self.person or keypoints:
            with clock("detect"):
                detections = self.detect(frames)
        pictures: list[dict[str, np.ndarray]] = [{} for _ in frames]
        poses = segments = guesses = None
        unusable: set[int] = set()
        if keypoints:
            poses = keypoints(frames, detections, self._clock(clock, keypoints))
        elif bottom_up:
            poses = bottom_up(frames, self._watch(frames, pictures), self._clock(clock, bottom_up))
        if labels:
            boxes = detections if self.person else None
            segments, unusable = labels(frames, boxes, self._clock(clock, labels))
            if bottom_up and self.person:  # its people are others than the detector's, and whose areas is not known
                segments = whole_frames(segments, frames)
        if classes:
            guesses = classes(frames, self._clock(clock, classes))
        with clock("records"):
            records = to_records(
                frames,
                poses,
                people=detections,
                segments=segments,
                classes=guesses,
                label_names=labels.spec.labels if labels else (),
                class_names=classes.spec.labels if classes else (),
                unusable=unusable,
            )
            maps = [
                None if segments is None or n in unusable else merge_labels(segments, n, frame.size_hw)
                for n, frame in enumerate(frames)
            ]
        parts = zip(records, maps, pictures)
        return [Result(record=record, label_map=labels, pictures=drawn) for record, labels, drawn in parts]

    def task(self, kind: type[Kind]) -> Kind | None:
        """The task of this kind, if there is one."""
        return next((task for task in self.tasks if type(task) is kind), None)

    @property
    def pose(self) -> Backend:
        """The first network."""
        return self.tasks[0].backend

    def crop(self, frames: Sequence[Frame], detections: Detections) -> Iterator[Crops]:
        """Crops of the keypoint network, in portions of one forward pass."""
        return self._keypoints().crop(frames, detections)

    def forward(self, crops: Crops) -> dict[str, np.ndarray]:
        """Keypoints in crop px and their scores."""
        return self._keypoints().forward(crops)

    def assemble(self, raw: dict[str, np.ndarray], crops: Crops) -> Poses:
        """Keypoints in frame px."""
        return self._keypoints().assemble(raw, crops)

    def describe(self) -> list[str]:
        """What runs where, one line a network."""
        lines = [f"{NAMES[task.spec.task]}: {task.backend.describe}" for task in self.tasks]
        return lines + ([f"detector: {self.person.describe}"] if self.person else [])

    def close(self) -> None:
        """Give the networks' memory back."""
        for backend in (*(task.backend for task in self.tasks), self.person):
            if backend is not None:
                backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _keypoints(self) -> Keypoints:
        task = self.task(Keypoints)
        if task is None:
            spec = self.pose.spec
            raise ModelError(f"{spec.model}: expected a network that takes boxes to keypoints, found {spec.task}")
        return task

    def _check(self, labels: LabelSet | None) -> None:
        """The networks and what is asked of them fit together."""
        kinds = [PeopleBottomUp if type(task) is Keypoints else type(task) for task in self.tasks]
        if len(set(kinds)) < len(kinds):
            names = ", ".join(task.spec.model for task in self.tasks)
            raise ConfigError(f"model: expected networks of different kinds, found two of one among {names}")
        if labels is not None and self.task(Labels) is None:
            raise ConfigError("labels: expected a segmentation network to name the classes of, found none")
        if self.pictures and self.task(PeopleBottomUp) is None:
            raise ConfigError(
                f"draw: {' and '.join(sorted(self.pictures))} are pictures of bottom-up networks, found none"
            )

    def _clock(self, clock: Clock, task: Task) -> Clock:
        """Stages of several networks are told apart by what they give."""
        return clock if len(self.tasks) == 1 else lambda stage: clock(f"{NAMES[task.spec.task]}: {stage}")

    def _check_boxes(self) -> None:
        """A detector is of use to somebody."""
        if not any(task.takes_boxes for task in self.tasks):
            names = " and ".join(task.spec.model for task in self.tasks)
            raise ConfigError(f"detector: {names} takes whole pictures; leave the detector out")

    def _watch(self, frames: Sequence[Frame], pictures: list[dict[str, np.ndarray]]) -> Watcher | None:
        """Draws the maps of frames as they come by; None where nothing is to be drawn."""
        if not self.pictures:
            return None
        task = self.task(PeopleBottomUp)
        names, grouping = keypoint_names(task.spec), task.options.grouping

        def watch(n: int, raw: dict[str, np.ndarray], to_frame: np.ndarray, input_hw: tuple[int, int]) -> None:
            pictures[n] |= map_pictures(self.pictures, frames[n], raw, to_frame, input_hw, names, grouping)

        return watch


NAMES = {"pose": "keypoints", "pose-bottom-up": "people", "segment": "labels", "classify": "classes"}


def keypoint_names(spec: ArtifactSpec) -> tuple[str, ...]:
    """What the keypoints of a network are called; numbers where it names no skeleton."""
    if spec.skeleton is not None:
        return load_skeleton(spec.skeleton).keypoint_names
    count = next(output.shape[1] for output in spec.outputs if output.name == "scores")
    return tuple(f"keypoint_{n}" for n in range(count))


def _open(model: str | Path | Backend, **options: Any) -> Backend:
    return open_backend(model, **options) if isinstance(model, str | Path) else model


def _task(backend: Backend, batch_size: int | None, options: TaskOptions) -> Task:
    kind = TASKS.get(backend.spec.task)
    if kind is None:
        name, task = backend.spec.model, backend.spec.task
        backend.close()
        raise ModelError(
            f"{name}: expected a network for keypoints, segmentation or classification, found one for {task}"
        )
    return kind(backend, batch_size, options)


def _frame(frame: Frame | np.ndarray, n: int) -> Frame:
    return frame if isinstance(frame, Frame) else Frame(pixels=frame, source=f"array-{n}")
