"""Logits -> Segments: the class of every pixel of whole frames, or of the part of a frame that each crop shows.

Logits are those of the pixel graph, (N, C, h', w') float32, arrays or a tensor on any device; labels are found there.
Cells are the usual half pixel apart: cell i of h' covers rows i * h / h' .. (i + 1) * h / h' of the network's input.
One channel is a yes or no: label 1 where its sigmoid is above 0.3, as in the original.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor

from lite.artifact import ArtifactSpec, CropRule
from lite.errors import ConfigError
from lite.label_sets import LabelSet, swapped_order
from lite.segment_upsample import largest_classes, resize_taps, taps_at, through
from lite.structures import Crops, Frame, Segments

YES_LOGIT = math.log(0.3 / 0.7)  # of the sigmoid 0.3
_COUNTED = 2**22  # labels counted at a time: counting takes eight bytes each


def stretch_frames(frames: Sequence[Frame], input_hw: tuple[int, int]) -> np.ndarray:
    """Whole frames at the network's input size, their aspect lost: (N, h, w, 3) uint8 RGB, bilinear."""
    pixels = np.empty((len(frames), *input_hw, 3), np.uint8)
    for frame, out in zip(frames, pixels):
        cv2.resize(frame.pixels, input_hw[::-1], dst=out, interpolation=cv2.INTER_LINEAR)
    return pixels


def frame_segments(
    logits: np.ndarray | Tensor, frames: Sequence[Frame], input_hw: tuple[int, int] | None = None
) -> Segments:
    """Labels of whole frames that were stretched to the network's input.

    Args:
        logits: (N, C, h', w') float32, one for each of the N frames.
        frames: only their sizes count.
        input_hw: resize by way of this size, px, as the training code does and the published mIoU was measured; None
            resizes in one step, as the original's own inference does. Few pixels at borders of classes differ.
    """
    labels = []
    for frame, one in zip(frames, _tensors(logits), strict=True):
        axes = [resize_taps(size, cells) for size, cells in zip(frame.size_hw, one.shape[1:])]
        if input_hw is not None:
            first = [resize_taps(side, cells) for side, cells in zip(input_hw, one.shape[1:])]
            second = [resize_taps(size, side) for size, side in zip(frame.size_hw, input_hw)]
            axes = [through(a, b) for a, b in zip(first, second)]
        labels.append(largest_classes(_two_classes(one), *axes))
    return _whole(labels, frames)


def crop_segments(
    logits: np.ndarray | Tensor, crops: Crops, frames: Sequence[Frame], rule: CropRule | None = None, first: int = 0
) -> Segments:
    """Labels of frame pixels around each detection.

    A crop is widened to the network's aspect and shows neighbours there; labels are given inside the detected box grown
    by the crop's padding alone, and inside the frame. A box outside its frame gives a map of no pixels.

    Args:
        logits: (N, C, h', w') float32, one for each of the N crops.
        crops: where they were cut from. frames: the frame batch their `frame_of` points into.
        rule: how they were cut (`spec.crop`); the usual one when None.
        first: place of the first crop among all detections.
    """
    rule = rule or CropRule()
    input_hw = crops.pixels.shape[1:3]
    found = crops.detections
    boxes = np.zeros((len(crops), 4), np.int64)
    labels = []
    for n, (one, matrix) in enumerate(zip(_tensors(logits), crops.to_frame.astype(np.float64), strict=True)):
        x1, y1, x2, y2 = boxes[n] = _shown(found.boxes[n], rule.padding, frames[found.frame_of[n]].size_hw)
        axes = []
        for axis, (start, stop) in ((1, (y1, y2)), (0, (x1, x2))):
            side, cells = input_hw[1 - axis], one.shape[2 - axis]
            # `to_frame` spreads `side` px over the crop; the udp warp spread `side - 1` of them from edge to edge.
            crop_px = (np.arange(start, stop) - matrix[axis, 2]) / matrix[axis, axis]
            crop_px *= (side - 1) / side if rule.affine == "udp" else 1.0
            axes.append(taps_at((crop_px + 0.5) * (cells / side) - 0.5, cells))
        labels.append(largest_classes(_two_classes(one), *axes))
    return Segments(
        labels=tuple(labels),
        boxes=boxes,
        detections=np.arange(first, first + len(crops), dtype=np.int64),
        scores=found.scores,
        frame_of=found.frame_of,
    )


def join_segments(parts: Sequence[Segments]) -> Segments:
    """Segments of consecutive parts of one frame batch as one; at least one part, which may be empty."""
    names = ("boxes", "detections", "scores", "frame_of")
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Segments(labels=tuple(one for part in parts for one in part.labels), **arrays)


def merge_labels(segments: Segments, frame: int, size_hw: tuple[int, int]) -> np.ndarray:
    """One label map (H, W) uint8 of everybody in a frame; background (0) where there is nobody.

    Where two people both have a class other than background, the higher detection score wins, then the earlier place.
    """
    merged = np.zeros(size_hw, np.uint8)
    mine = np.flatnonzero(segments.frame_of == frame)
    if len(mine) == 1 and segments.labels[mine[0]].shape == tuple(size_hw):
        return segments.labels[mine[0]]  # a whole frame, of up to 200 million pixels
    for n in mine[np.argsort(-segments.scores[mine], kind="stable")][::-1]:
        (x1, y1, x2, y2), labels = segments.boxes[n], segments.labels[n]
        np.copyto(merged[y1:y2, x1:x2], labels, where=labels != 0)
    return merged


def whole_frames(segments: Segments, frames: Sequence[Frame]) -> Segments:
    """What `merge_labels` makes of every frame, as segments of whole frames."""
    return _whole([merge_labels(segments, n, frame.size_hw) for n, frame in enumerate(frames)], frames)


def areas(segments: Segments, names: Sequence[str]) -> list[dict[str, int]]:
    """For each label map, class name -> px of the frame: every class that occurs in it, the background included."""
    return [area_of(labels, names) for labels in segments.labels]


def area_of(labels: np.ndarray, names: Sequence[str]) -> dict[str, int]:
    """Class name -> pixels of one label map (H, W) uint8, classes that occur; labels without a name by their number."""
    counts, flat = np.zeros(256, np.int64), labels.reshape(-1)
    for start in range(0, flat.size, _COUNTED):
        counts += np.bincount(flat[start : start + _COUNTED], minlength=256)
    return {names[n] if n < len(names) else str(n): int(counts[n]) for n in np.flatnonzero(counts)}


def flip_labels(labels: np.ndarray, swaps: Sequence[tuple[int, int]]) -> np.ndarray:
    """The label map (H, W) uint8 of the mirrored picture: left and right swap by `swaps`, 255 stays."""
    return np.array(swapped_order(256, swaps), np.uint8)[labels[:, ::-1]]


def relabel(spec: ArtifactSpec, labels: LabelSet) -> ArtifactSpec:
    """A segmentation network's spec with classes of one's own.

    Raises:
        ConfigError: another task, or another number of classes.
    """
    if spec.task != "segment" or len(spec.labels) != len(labels):
        has = f"{len(spec.labels)} classes" if spec.task == "segment" else f"the task {spec.task}"
        raise ConfigError(f"labels: expected a set for {spec.model}, which has {has}, found {len(labels)} names")
    return replace(spec, labels=labels.names, palette=labels.palette, label_swaps=labels.swaps)


def finite(logits: np.ndarray | Tensor) -> np.ndarray:
    """(N,) bool: whether all logits (N, C, h', w') of a picture are numbers; labels of others mean nothing."""
    return np.array([bool(torch.isfinite(one.sum())) for one in _tensors(logits)], bool)


def _whole(labels: Sequence[np.ndarray], frames: Sequence[Frame]) -> Segments:
    """A label map for each frame of a batch."""
    sizes = np.array([frame.size_hw for frame in frames], np.int64).reshape(-1, 2)
    return Segments(
        labels=tuple(labels),
        boxes=np.concatenate([np.zeros_like(sizes), sizes[:, ::-1]], axis=1),
        detections=np.full(len(frames), -1, np.int64),
        scores=np.ones(len(frames), np.float32),
        frame_of=np.arange(len(frames), dtype=np.int64),
    )


def _tensors(logits: np.ndarray | Tensor) -> Tensor:
    return (torch.from_numpy(logits) if isinstance(logits, np.ndarray) else logits.detach()).float()


def _two_classes(logits: Tensor) -> Tensor:
    """(C, h', w') with a background for the one class of a single channel."""
    return torch.cat([torch.full_like(logits, YES_LOGIT), logits]) if len(logits) == 1 else logits


def _shown(box: np.ndarray, padding: float, size_hw: tuple[int, int]) -> np.ndarray:
    """(4,) int64 xyxy: the frame's pixels whose centres lie in the box grown by `padding`, which may be none."""
    box = box.astype(np.float64)
    middle, half = (box[:2] + box[2:]) / 2, np.maximum(box[2:] - box[:2], 0) * padding / 2
    limit = np.array(size_hw[::-1])
    low = np.clip(np.ceil(middle - half), 0, limit)
    high = np.clip(np.floor(middle + half) + 1, low, limit)
    return np.concatenate([low, high]).astype(np.int64)
