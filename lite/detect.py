"""Frame batch -> Detections: people found by a network, given boxes, or the whole frame as one box."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from lite.artifact import ArtifactSpec
from lite.errors import ModelError
from lite.geometry import letterbox_geometry, nms_inclusive
from lite.network import Network
from lite.structures import Detections, Frame

FRAMES_AT_ONCE = 8


class PersonDetector:
    """People found by a detection network.

    Frames are letterboxed to the network's canvas and run together; what is kept is the usual demo-level choice: person
    label, score above `score_thr`, greedy suppression at `nms_thr` with inclusive-pixel sizes, best first.

    Args:
        backend: runs the network; `run(pixels (B, h, w, 3) uint8) -> boxes (B, n, 4) canvas px, scores, labels (B, n)`,
            before suppression, unused places with score 0. One with `find(pictures) -> [(boxes frame px, scores,
            labels)]` is handed whole pictures instead.
        score_thr: boxes must score strictly more.
        nms_thr: IoU with a better box up to which a box is kept.
        max_people: best boxes kept in a frame; None keeps all.

    Raises:
        ModelError: the backend's network is not a detector.

    Source: Sapiens `lite/demo/detector_utils.py`, mmpose `evaluation/functional/nms.py`.
    """

    def __init__(
        self, backend: Network, score_thr: float = 0.3, nms_thr: float = 0.3, max_people: int | None = None
    ) -> None:
        if backend.spec.task != "detect":
            raise ModelError(f"{backend.spec.model}: expected a detector, found a network for {backend.spec.task}")
        self.backend = backend
        self.score_thr = score_thr
        self.nms_thr = nms_thr
        self.max_people = max_people

    def __call__(self, frames: Sequence[Frame]) -> Detections:
        """Detections of a frame batch; a frame with nobody has none."""
        most = min(FRAMES_AT_ONCE, self.backend.spec.batch_range[1])
        found = []
        for start in range(0, len(frames), most):
            part = frames[start : start + most]
            for frame, (boxes, scores, labels) in zip(part, self._candidates(part)):
                people = labels == self.backend.spec.person_label
                found.append(self._select(frame, boxes[people], scores[people]))
        return _join(found)

    def _candidates(self, frames: Sequence[Frame]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Boxes (n, 4) float32 frame px, scores (n,) and labels (n,) of each frame."""
        if find := getattr(self.backend, "find", None):
            yield from find([frame.pixels for frame in frames])
            return
        spec = self.backend.spec
        raw = self.backend.run(np.stack([letterbox(frame.pixels, spec) for frame in frames]))
        for frame, boxes, scores, labels in zip(frames, raw["boxes"], raw["scores"], raw["labels"]):
            _, (scale_x, scale_y) = letterbox_geometry(frame.size_hw, spec.input_hw)
            yield (
                boxes.astype(np.float32) * np.float32([1 / scale_x, 1 / scale_y, 1 / scale_x, 1 / scale_y]),
                scores,
                labels,
            )

    def _select(self, frame: Frame, boxes: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (n, 4) frame px and scores (n,) of people -> the kept ones, best first."""
        sure = scores > self.score_thr
        boxes, scores = boxes[sure], scores[sure].astype(np.float32)
        kept = nms_inclusive(boxes, scores, self.nms_thr)
        boxes, scores = _inside(boxes[kept], frame), scores[kept]
        real = (boxes[:, 2] - boxes[:, 0] >= 1) & (boxes[:, 3] - boxes[:, 1] >= 1)  # the rest lay in the padding
        return boxes[real][: self.max_people], scores[real][: self.max_people]


class WholeFrame:
    """Every frame is one box with score 1: for pictures of one person, and for networks that find people themselves."""

    def __call__(self, frames: Sequence[Frame]) -> Detections:
        """One detection a frame."""
        sizes = [frame.size_hw for frame in frames]
        return _join([(np.float32([[0, 0, w, h]]), np.ones(1, np.float32)) for h, w in sizes])


class GivenBoxes:
    """Boxes known beforehand, looked up by the frame's source.

    Args:
        boxes: source -> boxes (n, 4) xyxy px of the frame and scores (n,); a source that is not there has nobody.
    """

    def __init__(self, boxes: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
        self.boxes = boxes

    def __call__(self, frames: Sequence[Frame]) -> Detections:
        """The frames' boxes in the given order."""
        nobody = (np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
        return _join([self.boxes.get(frame.source, nobody) for frame in frames])


def letterbox(pixels: np.ndarray, spec: ArtifactSpec) -> np.ndarray:
    """(H, W, 3) uint8 -> the detector's canvas (h, w, 3) uint8: aspect kept, top left, the rest filled."""
    (new_h, new_w), _ = letterbox_geometry(pixels.shape[:2], spec.input_hw)
    canvas = np.full((*spec.input_hw, 3), spec.letterbox.fill if spec.letterbox else 114, np.uint8)
    canvas[:new_h, :new_w] = cv2.resize(pixels, (new_w, new_h), interpolation=cv2.INTER_LINEAR)
    return canvas


def _inside(boxes: np.ndarray, frame: Frame) -> np.ndarray:
    h, w = frame.size_hw
    return np.clip(boxes, 0, np.float32([w, h, w, h]))


def _join(found: Sequence[tuple[np.ndarray, np.ndarray]]) -> Detections:
    """Boxes and scores of each frame -> one batch."""
    return Detections(
        boxes=np.concatenate([np.zeros((0, 4), np.float32), *(boxes for boxes, _ in found)]).astype(np.float32),
        scores=np.concatenate([np.zeros(0, np.float32), *(scores for _, scores in found)]).astype(np.float32),
        frame_of=np.repeat(np.arange(len(found), dtype=np.int64), [len(boxes) for boxes, _ in found]),
    )
