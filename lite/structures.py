"""The types that flow through the stages; each is made by one stage and read by the next.

    source -> Frame -> Detections -> Crops -> raw -> Poses -> Record

`N` crops, `P` people, `K` keypoints, `(h, w)` network input, `(H, W)` frame. Every batch may be empty: length 0 is an
ordinary length. Boxes are `xyxy` float32 pixels of the frame; points are `(x, y)` with pixel centres at integer
coordinates.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

RECORD_SCHEMA = "hpe-lite/record/1"


def _expect(name: str, array: np.ndarray, shape: tuple[int | None, ...], dtype: type) -> None:
    """Check one array field; `None` in `shape` accepts any length. A mismatch is our own mistake, hence `TypeError`."""
    fits = array.ndim == len(shape) and all(want is None or want == got for want, got in zip(shape, array.shape))
    if not fits or array.dtype != dtype:
        wanted = tuple("any" if side is None else side for side in shape)
        raise TypeError(
            f"{name}: expected shape {wanted} {np.dtype(dtype).name}, found {tuple(array.shape)} {array.dtype.name}"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One picture or video frame.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        source: file name or URL it came from, as results will name it.
        index: position in its source; 0 for stills.
        time_s: presentation time in a video; None for stills.
    """

    pixels: np.ndarray
    source: str
    index: int = 0
    time_s: float | None = None

    def __post_init__(self) -> None:
        _expect("Frame.pixels", self.pixels, (None, None, 3), np.uint8)

    @property
    def size_hw(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])


@dataclass(frozen=True, kw_only=True, eq=False)
class Detections:
    """People found in a frame batch.

    Attributes:
        boxes: (N, 4) float32 xyxy, px of the frame.
        scores: (N,) float32 in 0..1.
        frame_of: (N,) int64, position in the frame batch, ascending.
    """

    boxes: np.ndarray
    scores: np.ndarray
    frame_of: np.ndarray

    def __post_init__(self) -> None:
        n = len(self.boxes)
        _expect("Detections.boxes", self.boxes, (n, 4), np.float32)
        _expect("Detections.scores", self.scores, (n,), np.float32)
        _expect("Detections.frame_of", self.frame_of, (n,), np.int64)

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True, kw_only=True, eq=False)
class Crops:
    """Network-sized pictures of single boxes, with the way back.

    Attributes:
        pixels: (N, h, w, 3) uint8 RGB.
        to_frame: (N, 2, 3) float32, crop px -> frame px.
        detections: the N boxes they were cut from.
    """

    pixels: np.ndarray
    to_frame: np.ndarray
    detections: Detections

    def __post_init__(self) -> None:
        n = len(self.detections)
        _expect("Crops.pixels", self.pixels, (n, None, None, 3), np.uint8)
        _expect("Crops.to_frame", self.to_frame, (n, 2, 3), np.float32)

    def __len__(self) -> int:
        return len(self.detections)


@dataclass(frozen=True, kw_only=True, eq=False)
class Poses:
    """People with keypoints in frame pixels.

    Attributes:
        keypoints: (P, K, 2) float32, px of the frame.
        keypoint_scores: (P, K) float32, raw heatmap maxima (about 0..1).
        boxes: (P, 4) float32 xyxy, px of the frame.
        scores: (P,) float32, detection scores.
        frame_of: (P,) int64, position in the frame batch, ascending.
    """

    keypoints: np.ndarray
    keypoint_scores: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    frame_of: np.ndarray

    def __post_init__(self) -> None:
        p = len(self.boxes)
        _expect("Poses.keypoints", self.keypoints, (p, None, 2), np.float32)
        _expect("Poses.keypoint_scores", self.keypoint_scores, (p, self.keypoints.shape[1]), np.float32)
        _expect("Poses.boxes", self.boxes, (p, 4), np.float32)
        _expect("Poses.scores", self.scores, (p,), np.float32)
        _expect("Poses.frame_of", self.frame_of, (p,), np.int64)

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True, kw_only=True, eq=False)
class Segments:
    """Class labels of whole frames or of the boxes in them.

    Attributes:
        labels: P arrays (h, w) uint8, class of every frame pixel inside the box of the same place.
        boxes: (P, 4) int64 xyxy, px of the frame, inside it; x2 and y2 are one past the last pixel.
        detections: (P,) int64, position among the detections the crops were cut from; -1 for a whole frame.
        scores: (P,) float32, detection scores; 1 for a whole frame.
        frame_of: (P,) int64, position in the frame batch, ascending.
    """

    labels: tuple[np.ndarray, ...]
    boxes: np.ndarray
    detections: np.ndarray
    scores: np.ndarray
    frame_of: np.ndarray

    def __post_init__(self) -> None:
        p = len(self.labels)
        _expect("Segments.boxes", self.boxes, (p, 4), np.int64)
        _expect("Segments.detections", self.detections, (p,), np.int64)
        _expect("Segments.scores", self.scores, (p,), np.float32)
        _expect("Segments.frame_of", self.frame_of, (p,), np.int64)
        for labels, (x1, y1, x2, y2) in zip(self.labels, self.boxes.tolist()):
            _expect("Segments.labels", labels, (y2 - y1, x2 - x1), np.uint8)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class Classes:
    """The likeliest classes of frames.

    Attributes:
        labels: (N, n) int64, class ids, likeliest first.
        scores: (N, n) float32, probabilities 0..1.
        frame_of: (N,) int64, position in the frame batch, ascending.
    """

    labels: np.ndarray
    scores: np.ndarray
    frame_of: np.ndarray

    def __post_init__(self) -> None:
        n = len(self.frame_of)
        _expect("Classes.labels", self.labels, (n, None), np.int64)
        _expect("Classes.scores", self.scores, (n, self.labels.shape[1]), np.float32)
        _expect("Classes.frame_of", self.frame_of, (n,), np.int64)

    def __len__(self) -> int:
        return len(self.frame_of)


@dataclass(frozen=True, kw_only=True)
class Record:
    """The result of one frame in plain Python, ready for JSON.

    Attributes:
        source: file name or URL of the frame.
        index: position in its source; 0 for stills.
        time_s: presentation time in a video; None for stills.
        size_hw: (H, W) of the frame in px; None when it could not be read.
        people: one dict a person, best detection first: `keypoints` [[x, y], ...] px of the frame, `keypoint_scores`
            [...], `bbox` [[x1, y1, x2, y2]], `bbox_score`. Empty when nobody is there. With a segmentation network also
            `areas` (class name -> px of the frame), without a keypoint network no keypoints.
        areas: class name -> px of the frame, classes that occur; None without a segmentation network.
        classes: one dict a class, likeliest first: `label`, `name`, `score`; None without a classification network.
        error: why the frame could not be processed, or which of several networks failed; what the others found is
            there. None when all went well.
        schema: version of this layout.
    """

    source: str
    index: int = 0
    time_s: float | None = None
    size_hw: tuple[int, int] | None = None
    people: list[dict[str, Any]] = field(default_factory=list)
    areas: dict[str, int] | None = None
    classes: list[dict[str, Any]] | None = None
    error: str | None = None
    schema: str = RECORD_SCHEMA


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """A frame's record with what of it is pixels; it stays in the process that read the frame.

    Attributes:
        record: the rest.
        label_map: (H, W) uint8, class of each pixel of the frame; None without a segmentation network.
        pictures: name -> (h, w, 3) uint8 RGB, drawn from maps that only the network's process has (heatmaps, tags).
    """

    record: Record
    label_map: np.ndarray | None = None
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
