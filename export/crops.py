"""Real pictures for the check: crops of the bundled photographs and of the user's, made by the engine's own stages."""

from pathlib import Path

import numpy as np

import lite
from lite.artifact import ArtifactSpec, CropRule
from lite.crop import crop
from lite.detect import letterbox
from lite.readers import list_pictures, read_frame
from lite.structures import Detections, Frame

PICTURES = Path(lite.__file__).parent / "pictures"
# Boxes around the people of the bundled photographs, xyxy in fractions of the picture.
PEOPLE = {"astronaut.jpg": (0.02, 0.0, 0.92, 1.0), "grace_hopper.jpg": (0.0, 0.02, 1.0, 1.0)}

TIMES = 4  # along each side
# Pixels to calibrate int8 with: a crop of 1024 x 768 can take twenty seconds. Never fewer or more crops than these.
CALIBRATION_PX, LEAST_CALIBRATION, MOST_CALIBRATION = 8 * 1024 * 768, 8, 64


def check_crops(spec: ArtifactSpec, check_images: str | Path | None, count: int) -> np.ndarray:
    """(count, h, w, 3) uint8 RGB, the same on every call.

    The user's pictures come first, then the bundled ones, then shifted and scaled boxes of both until there are
    `count`. Detectors get parts of the pictures, and every third time a part several times over, so that people are of
    all sizes and every level of the network has something to find.
    """
    paths = list_pictures([str(check_images)]) if check_images else []
    frames = [read_frame(item) for item in paths[:count]]
    frames += [read_frame(item) for item in list_pictures([str(PICTURES / name) for name in PEOPLE])]
    random = np.random.default_rng(0)
    made: list[np.ndarray] = []
    while len(made) < count:
        frame = frames[len(made) % len(frames)]
        box = _person(frame)
        if len(made) >= len(frames):
            box = _moved(box, random)
        times = TIMES if len(made) % 3 == 2 else 1
        made.append(_canvas(frame, box, times, spec) if spec.task == "detect" else _crop(frame, box, spec))
    return np.stack(made)


def calibration_crops(spec: ArtifactSpec) -> int:
    """How many crops to find value ranges with, unless told: the fewer, the larger they are."""
    height, width = spec.input_hw
    return min(max(CALIBRATION_PX // (height * width), LEAST_CALIBRATION), MOST_CALIBRATION)


def _person(frame: Frame) -> np.ndarray:
    """(4,) float32 xyxy px: the known person of a bundled photograph, else the whole picture."""
    height, width = frame.size_hw
    return np.float32(PEOPLE.get(Path(frame.source).name, (0, 0, 1, 1))) * np.float32([width, height, width, height])


def _moved(box: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The box shifted by up to a tenth and scaled to 70..110 %."""
    size = box[2:] - box[:2]
    center = (box[:2] + box[2:]) / 2 + random.uniform(-0.1, 0.1, 2) * size
    half = size * random.uniform(0.7, 1.1) / 2
    return np.float32([*(center - half), *(center + half)])


def _crop(frame: Frame, box: np.ndarray, spec: ArtifactSpec) -> np.ndarray:
    one = Detections(boxes=box[None], scores=np.ones(1, np.float32), frame_of=np.zeros(1, np.int64))
    return crop([frame], one, spec.input_hw, spec.crop or CropRule()).pixels[0]


def _canvas(frame: Frame, box: np.ndarray, times: int, spec: ArtifactSpec) -> np.ndarray:
    height, width = frame.size_hw
    x1, y1, x2, y2 = np.clip(box, 0, [width, height, width, height]).astype(int)
    part = frame.pixels[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]  # at least a pixel
    return letterbox(np.tile(part, (times, times, 1)), spec)
