"""What each kind of network does with a frame batch: the stages between detection and records, one class a task.

A task holds one open network. Keypoints need boxes; labels take boxes or whole frames; people found bottom-up and
classes take whole frames.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
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
        self.batch_size = batch_size or forward_size(backend.spec, backend.device)
        self.options = options


class Keypoints(Task):
    """Boxes -> keypoints."""

    takes_boxes = needs_boxes = True

    def __call__(self, frames: Sequence[Frame], detections: Detections) -> Poses:
        return join([self.assemble(self.forward(crops), crops) for crops in self.crop(frames, detections)])

    def crop(self, frames: Sequence[Frame], detections: Detections) -> Iterator[Crops]:
        """Crops in portions of one forward pass: a crowd's crops would not fit in memory together."""
        for portion in portions(detections, self.batch_size):
            yield crop(frames, portion, self.spec.input_hw, self.spec.crop or CropRule())

    def forward(self, crops: Crops) -> dict[str, np.ndarray]:
        """Keypoints in crop px and their scores."""
        return forward(self.backend, crops.pixels, self.batch_size)

    def assemble(self, raw: dict[str, np.ndarray], crops: Crops) -> Poses:
        """Keypoints in frame px."""
        return assemble(raw, crops)


class PeopleBottomUp(Task):
    """Whole frames -> people with keypoints; frames of one input size run together."""

    def __call__(self, frames: Sequence[Frame], watch: Watcher | None = None) -> Poses:
        parts: list[Poses] = []
        for fitted in fit_frames(frames, self.spec):
            for part in _slices(fitted, self.batch_size):
                raw = forward(self.backend, part.pixels, self.batch_size)
                parts.append(assemble_people(raw, part, self.options.grouping))
                for n, frame in enumerate(part.frame_of.tolist() if watch else ()):
                    watch(frame, {name: raw[name][n] for name in raw}, part.to_frame[n], part.pixels.shape[1:3])
        return in_frame_order(parts, next(o.shape[1] for o in self.spec.outputs if o.name == "scores"))


class Labels(Task):
    """Whole frames, or boxes, -> class of every pixel."""

    takes_boxes = True

    def __call__(self, frames: Sequence[Frame], detections: Detections | None) -> tuple[Segments, set[int]]:
        """Labels of the detections' crops, of whole frames where there are none (None); and which frames' are not to be
        used, because the network gave values that are not finite."""
        parts, bad = [], set()
        for logits, segments in self._parts(frames, detections):
            parts.append(segments)
            bad.update(segments.frame_of[~finite(logits)].tolist())
        return join_segments(parts), bad

    def _parts(
        self, frames: Sequence[Frame], detections: Detections | None
    ) -> Iterator[tuple[np.ndarray | Tensor, Segments]]:
        """Logits and labels in portions of one forward pass; one empty portion when there are none."""
        if detections is None:
            by_way_of = self.spec.input_hw if self.options.resize == "twice" else None
            for start in range(0, max(len(frames), 1), self.batch_size):
                some = frames[start : start + self.batch_size]
                logits = self._logits(stretch_frames(some, self.spec.input_hw))
                segments = frame_segments(logits, some, by_way_of)
                yield logits, replace(segments, frame_of=segments.frame_of + start)
            return
        rule, done = self.spec.crop or CropRule(), 0
        for portion in portions(detections, self.batch_size):
            crops = crop(frames, portion, self.spec.input_hw, rule)
            logits = self._logits(crops.pixels)
            yield logits, crop_segments(logits, crops, frames, rule, done)
            done += len(portion)

    def _logits(self, pixels: np.ndarray) -> np.ndarray | Tensor:
        """(N, C, h', w') on the device, for crops of one forward pass."""
        parts = [outputs["logits"] for outputs in forward_tensors(self.backend, pixels, self.batch_size)]
        return torch.cat(parts) if parts else empty_outputs(self.spec)["logits"]


class FrameClasses(Task):
    """Whole frames -> their likeliest classes."""

    def __call__(self, frames: Sequence[Frame]) -> Classes:
        pixels, frame_of = fit_classified(frames, self.spec)
        raw = forward(self.backend, pixels, self.batch_size)
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
