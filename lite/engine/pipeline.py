"""The flow on one device: frames -> detections -> crops -> raw -> poses -> records."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from lite.artifact import CropRule
from lite.assemble import assemble, join, to_records
from lite.backends import able_backends, open_backend
from lite.backends.base import Backend
from lite.crop import crop
from lite.detect import PersonDetector, WholeFrame
from lite.engine.plan import forward_size
from lite.errors import ModelError
from lite.forward import forward
from lite.structures import Crops, Detections, Frame, Poses, Record

DEFAULT_MODEL = "pose17-small"
DEFAULT_DETECTOR = "person-nano"

Model = str | Path | Backend | None


class Pipeline:
    """People and their keypoints in frames, on one device.

    Args:
        model: zoo name, checkpoint, exported file or open backend of the keypoint network; None takes the built-in one.
        detector: likewise; None takes the built-in one, "none" makes every whole frame one box.
        device: "auto", "cpu", "cuda", "cuda:1", ...
        mode: "auto", "float32", "float16" or "bfloat16", for networks that run eagerly.
        backend: name in `lite.backends.BACKENDS`, for exported files that it can run; "auto" takes the fastest that is
            installed.
        batch_size: people in one forward pass at most, from all frames of a call together; None follows the size of
            the network.
        bbox_thr, nms_thr, max_people: which detections count, as in `PersonDetector`.
        flip_test: average with the mirrored crop; None keeps what the model says.
        threads: processor threads of the networks.
        trust: whether files that can run code may be opened.
        det_config: config file of the detector, where its checkpoint needs one.

    Raises:
        ModelError: a model that is not known, cannot be used here, or does something else.
    """

    def __init__(
        self,
        model: Model = None,
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
    ) -> None:
        where = {"device": device, "mode": mode, "threads": threads, "trust": trust}
        self.pose = _open(model or DEFAULT_MODEL, **where, backend=backend, flip_test=flip_test)
        self.person: Backend | None = None
        if self.pose.spec.task != "pose":
            raise ModelError(
                f"{self.pose.spec.model}: expected a keypoint network, found one for {self.pose.spec.task}"
            )
        if detector != "none":
            detector = detector or DEFAULT_DETECTOR
            # Backend and mode are asked for the keypoint network; a detector that cannot have them takes its own.
            able = able_backends(detector) if isinstance(detector, str | Path) else {backend}
            own = where | {"mode": "auto"} if mode == "int8" and able == {"eager"} else where
            self.person = _open(detector, **own, backend=backend if backend in able else "auto", config=det_config)
        self.batch_size = batch_size or forward_size(self.pose.spec, self.pose.device)
        self.detect = PersonDetector(self.person, bbox_thr, nms_thr, max_people) if self.person else WholeFrame()

    def __call__(self, frames: Sequence[Frame | np.ndarray]) -> list[Record]:
        """One record a frame, in order.

        Args:
            frames: frames, or (H, W, 3) uint8 RGB arrays, of any sizes; a list that fits in memory.
        """
        frames = [_frame(frame, n) for n, frame in enumerate(frames)]
        detections = self.detect(frames)
        poses = [self.assemble(self.forward(crops), crops) for crops in self.crop(frames, detections)]
        return to_records(frames, join(poses))

    def crop(self, frames: Sequence[Frame], detections: Detections) -> Iterator[Crops]:
        """Crops in portions of one forward pass: a crowd's crops would not fit in memory together."""
        for portion in _portions(detections, self.batch_size):
            yield crop(frames, portion, self.pose.spec.input_hw, self.pose.spec.crop or CropRule())

    def forward(self, crops: Crops) -> dict[str, np.ndarray]:
        """Keypoints in crop px and their scores."""
        return forward(self.pose, crops.pixels, self.batch_size)

    def assemble(self, raw: dict[str, np.ndarray], crops: Crops) -> Poses:
        """Keypoints in frame px."""
        return assemble(raw, crops)

    def describe(self) -> list[str]:
        """What runs where, one line a network."""
        lines = [f"keypoints: {self.pose.describe}"]
        return lines + ([f"detector: {self.person.describe}"] if self.person else [])

    def close(self) -> None:
        """Give the networks' memory back."""
        for backend in (self.pose, self.person):
            if backend is not None:
                backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open(model: str | Path | Backend, **options: Any) -> Backend:
    return open_backend(model, **options) if isinstance(model, str | Path) else model


def _frame(frame: Frame | np.ndarray, n: int) -> Frame:
    return frame if isinstance(frame, Frame) else Frame(pixels=frame, source=f"array-{n}")


def _portions(detections: Detections, most: int) -> Iterable[Detections]:
    """Consecutive parts of at most `most`; one empty part when there are none."""
    for start in range(0, max(len(detections), 1), most):
        part = slice(start, start + most)
        yield Detections(
            boxes=detections.boxes[part], scores=detections.scores[part], frame_of=detections.frame_of[part]
        )
