"""What each kind of network does with a frame batch: the stages between detection and records, one class a task.

A task holds one open network. Keypoints need boxes; labels take boxes or whole frames; people found bottom-up and
classes take whole frames.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from lite.artifact import CropRule
from lite.assemble import assemble, join
from lite.backends.base import Backend
from lite.bottom_up import FittedFrames, assemble_people, fit_frames, in_frame_order
from lite.classify import assemble_classes
from lite.classify import fit_frames as fit_classified
from lite.crop import crop
from lite.engine.plan import forward_size
from lite.forward import forward, forward_tensors
from lite.group import Grouping
from lite.network import empty_outputs
from lite.segment import crop_segments, finite, frame_segments, join_segments, stretch_frames
from lite.structures import Classes, Crops, Detections, Frame, Poses, Segments

# What a bottom-up task hands its maps to: position in the frame batch, its outputs of the frame, px of the input -> px
# of the frame, and the input's size.
Watcher = Callable[[int, dict[str, np.ndarray], np.ndarray, tuple[int, int]], None]
# Times what is done inside it, under the name of a stage.
Clock = Callable[[str], AbstractContextManager[None]]


def untimed(stage: str) -> AbstractContextManager[None]:
    """The clock that nobody reads."""
    return nullcontext()


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """Choices of the tasks.

    Attributes:
        grouping: how bottom-up candidates become people.
        resize: how labels get to the frame's size, "once" or "twice", see `lite.segment.frame_segments`.
        top: classes kept of each frame.
    """

    grouping: Grouping = field(default_factory=Grouping)
    resize: str = "once"
    top: int = 5


class Task:
    """One network and its stages.

    Args:
        backend: the open network.
        batch_size: crops in one forward pass at most; None follows the size of the network.
        options: choices of all tasks.
    """

    takes_boxes = False
    needs_boxes = False

    def __init__(self, backend: Backend, batch_size: int | None, options: TaskOptions) -> None:
        self.backend = backend
        self.spec = backend.spec
        self.asked = batch_size
        self.batch_size = batch_size or forward_size(backend.spec, backend.device)
        self.options = options


class Keypoints(Task):
    """Boxes -> keypoints."""

    takes_boxes = needs_boxes = True

    def __call__(self, frames: Sequence[Frame], detections: Detections, clock: Clock = untimed) -> Poses:
        parts = []
        for portion in portions(detections, self.batch_size):
            with clock("crop"):
                crops = self._cut(frames, portion)
            with clock("forward"):
                raw = self.forward(crops)
            with clock("assemble"):
                parts.append(self.assemble(raw, crops))
        return join(parts)

    def crop(self, frames: Sequence[Frame], detections: Detections) -> Iterator[Crops]:
        """Crops in portions of one forward pass: a crowd's crops would not fit in memory together."""
        for portion in portions(detections, self.batch_size):
            yield self._cut(frames, portion)

    def forward(self, crops: Crops) -> dict[str, np.ndarray]:
        """Keypoints in crop px and their scores."""
        return forward(self.backend, crops.pixels, self.batch_size)

    def assemble(self, raw: dict[str, np.ndarray], crops: Crops) -> Poses:
        """Keypoints in frame px."""
        return assemble(raw, crops)

    def _cut(self, frames: Sequence[Frame], detections: Detections) -> Crops:
        return crop(frames, detections, self.spec.input_hw, self.spec.crop or CropRule())


class PeopleBottomUp(Task):
    """Whole frames -> people with keypoints; frames of one input size run together."""

    def __call__(self, frames: Sequence[Frame], watch: Watcher | None = None, clock: Clock = untimed) -> Poses:
        parts: list[Poses] = []
        with clock("resize"):
            groups = fit_frames(frames, self.spec)
        for fitted in groups:
            most = self.asked or forward_size(self.spec, self.backend.device, fitted.pixels.shape[1:3])
            for part in _slices(fitted, most):
                with clock("forward"):
                    raw = forward(self.backend, part.pixels, most)
                with clock("group"):
                    parts.append(assemble_people(raw, part, self.options.grouping))
                with clock("draw maps") if watch else nullcontext():
                    for n, frame in enumerate(part.frame_of.tolist() if watch else ()):
                        watch(frame, {name: raw[name][n] for name in raw}, part.to_frame[n], part.pixels.shape[1:3])
        return in_frame_order(parts, next(o.shape[1] for o in self.spec.outputs if o.name == "scores"))


class Labels(Task):
    """Whole frames, or boxes, -> class of every pixel."""

    takes_boxes = True

    def __call__(
        self, frames: Sequence[Frame], detections: Detections | None, clock: Clock = untimed
    ) -> tuple[Segments, set[int]]:
        """Labels of the detections' crops, of whole frames where there are none (None); and which frames' are not to be
        used, because the network gave values that are not finite."""
        parts: list[Segments] = []
        bad: set[int] = set()
        per_part = self._of_frames(frames, clock) if detections is None else self._of_boxes(frames, detections, clock)
        for segments, usable in per_part:
            parts.append(segments)
            bad.update(segments.frame_of[~usable].tolist())
        return join_segments(parts), bad

    def _of_frames(self, frames: Sequence[Frame], clock: Clock) -> Iterator[tuple[Segments, np.ndarray]]:
        """Labels in portions of one forward pass, one empty portion of no frames, and which are (N,) bool usable."""
        by_way_of = self.spec.input_hw if self.options.resize == "twice" else None
        for start in range(0, max(len(frames), 1), self.batch_size):
            some = frames[start : start + self.batch_size]
            with clock("resize"):
                pixels = stretch_frames(some, self.spec.input_hw)
            with clock("forward"):
                logits = self._logits(pixels)
            with clock("label"):
                segments = frame_segments(logits, some, by_way_of)
                usable = finite(logits)
            yield replace(segments, frame_of=segments.frame_of + start), usable

    def _of_boxes(
        self, frames: Sequence[Frame], detections: Detections, clock: Clock
    ) -> Iterator[tuple[Segments, np.ndarray]]:
        """The same of the detections' crops."""
        rule, done = self.spec.crop or CropRule(), 0
        for portion in portions(detections, self.batch_size):
            with clock("crop"):
                crops = crop(frames, portion, self.spec.input_hw, rule)
            with clock("forward"):
                logits = self._logits(crops.pixels)
            with clock("label"):
                segments = crop_segments(logits, crops, frames, rule, done)
                usable = finite(logits)
            yield segments, usable
            done += len(portion)

    def _logits(self, pixels: np.ndarray) -> np.ndarray | Tensor:
        """(N, C, h', w') on the device, for crops of one forward pass."""
        parts = [outputs["logits"] for outputs in forward_tensors(self.backend, pixels, self.batch_size)]
        return torch.cat(parts) if parts else empty_outputs(self.spec)["logits"]


class FrameClasses(Task):
    """Whole frames -> their likeliest classes."""

    def __call__(self, frames: Sequence[Frame], clock: Clock = untimed) -> Classes:
        with clock("resize"):
            pixels, frame_of = fit_classified(frames, self.spec)
        with clock("forward"):
            raw = forward(self.backend, pixels, self.batch_size)
        with clock("assemble"):
            return assemble_classes(raw, frame_of, self.options.top)


TASKS: dict[str, type[Task]] = {
    "pose": Keypoints,
    "pose-bottom-up": PeopleBottomUp,
    "segment": Labels,
    "classify": FrameClasses,
}


def portions(detections: Detections, most: int) -> Iterable[Detections]:
    """Consecutive parts of at most `most`; one empty part when there are none."""
    for start in range(0, max(len(detections), 1), most):
        part = slice(start, start + most)
        yield Detections(
            boxes=detections.boxes[part], scores=detections.scores[part], frame_of=detections.frame_of[part]
        )


def _slices(fitted: FittedFrames, most: int) -> Iterator[FittedFrames]:
    for start in range(0, len(fitted), most):
        part = slice(start, start + most)
        yield FittedFrames(pixels=fitted.pixels[part], to_frame=fitted.to_frame[part], frame_of=fitted.frame_of[part])
