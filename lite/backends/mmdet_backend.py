"""A detector of the installed mmdetection, for configurations that describe anything but an RTMDet.

mmdetection runs its configurations as Python and unpickles its checkpoints, so both need `trust`. It letterboxes and
normalises by itself: `find` takes whole pictures, which is what `lite.detect.PersonDetector` hands over.
"""

import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from lite.artifact import ArtifactSpec
from lite.backends.devices import choose_device
from lite.errors import ConfigError, MissingExtraError, ModelError, UnsafeFileError, first_line

INPUT_HW = (640, 640)  # of canvases that `run` is measured with; pictures of any size are taken
Boxes = tuple[np.ndarray, np.ndarray, np.ndarray]


class MmdetBackend:
    """A loaded detector of mmdetection 3.x; see `lite.backends.base.Backend`.

    Args:
        model: what `init_detector` gave.
        infer: `inference_detector`: model and pictures (H, W, 3) uint8 BGR -> one sample a picture, whose
            `pred_instances` has `bboxes` (n, 4) xyxy px of the picture, `scores` (n,) and `labels` (n,).
        config, checkpoint: where they came from.
        device: torch device name.

    Raises:
        ModelError: none of its classes is a person.
    """

    def __init__(
        self,
        model: Any,
        infer: Callable[[Any, list[np.ndarray]], Sequence[Any]],
        config: Path,
        checkpoint: Path,
        device: str,
    ) -> None:
        labels = class_names(model)
        self.model = model
        self.infer = infer
        self.device = device
        self.spec = ArtifactSpec(
            task="detect",
            model=f"mmdet-{config.stem}",
            input_hw=INPUT_HW,
            mean=(0, 0, 0),
            std=(1, 1, 1),
            color_order="BGR",
            labels=labels,
            person_label=person_label(labels, config),
        )
        self.describe = f"{checkpoint.name}, {config.name} in mmdetection, float32, on {device}"
        self._one_at_a_time = threading.Lock()  # mmdetection does not say that a model may be shared by threads

    def find(self, pictures: Sequence[np.ndarray]) -> list[Boxes]:
        """Boxes of whole pictures.

        Args:
            pictures: (H, W, 3) uint8 RGB, of any sizes.

        Returns:
            For each picture boxes (n, 4) float32 xyxy px of it, scores (n,) float32, labels (n,) int64.

        Raises:
            ModelError: mmdetection failed.
        """
        if not pictures:
            return []
        bgr = [np.ascontiguousarray(pixels[..., ::-1]) for pixels in pictures]
        try:
            with self._one_at_a_time:
                samples = self.infer(self.model, bgr)
        except Exception as problem:  # of any kind: the configuration decides what code runs
            raise ModelError(f"{self.spec.model}: mmdetection failed while running it ({_short(problem)})") from problem
        return [_boxes(sample.pred_instances) for sample in samples]

    def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Canvases (B, h, w, 3) uint8 RGB -> boxes (B, n, 4), scores and labels (B, n); unused places score 0."""
        found = self.find(list(pixels))
        most = max((len(scores) for _, scores, _ in found), default=0)
        raw = {
            "boxes": np.zeros((len(pixels), most, 4), np.float32),
            "scores": np.zeros((len(pixels), most), np.float32),
            "labels": np.zeros((len(pixels), most), np.int64),
        }
        for n, values in enumerate(found):
            for name, value in zip(raw, values):
                raw[name][n, : len(value)] = value
        return raw

    def close(self) -> None:
        """Give the model's memory back."""
        self.model = None


def open(
    model: str | Path, *, config: str | Path, device: str = "auto", trust: bool = False, **ignored: object
) -> MmdetBackend:
    """Have mmdetection build and load a detector.

    Args:
        model: checkpoint file. config: mmdetection configuration (.py); it is run.
        device: "auto" or a torch device name.
        trust: whether both may run code.
        ignored: what other backends take; mmdetection runs in the precision of its configuration.

    Raises:
        UnsafeFileError: without `trust`.
        MissingExtraError: mmdetection is not installed.
        ModelError: it is installed and cannot be used, or refuses the two files.
    """
    config, checkpoint = Path(config), Path(model)
    for path, key in ((config, "det_config"), (checkpoint, "det_checkpoint")):
        if not path.is_file():
            raise ConfigError(f"{key}: expected a file, found none at {path}")
    if not trust:
        raise UnsafeFileError(
            f"{config}: mmdetection runs this configuration as Python code and unpickles {checkpoint.name}, either of "
            "which can do anything; pass --trust if you trust whoever wrote both (an RTMDet needs neither)"
        )
    target = str(choose_device(device))
    try:
        apis = import_module("mmdet.apis")
    except ModuleNotFoundError as problem:
        if problem.name == "mmdet":
            raise MissingExtraError("mmdet", "mmdet", f"the detector of {config}") from None
        raise _unusable(problem) from problem
    except (ImportError, AssertionError) as problem:  # mmdetection asserts the version of mmcv
        raise _unusable(problem) from problem
    try:
        network = apis.init_detector(str(config), str(checkpoint), palette="none", device=target)
    except Exception as problem:  # of any kind: the configuration decides what code runs
        raise ModelError(f"{config}: mmdetection cannot load {checkpoint} with it ({_short(problem)})") from problem
    return MmdetBackend(network, apis.inference_detector, config, checkpoint, target)


def class_names(model: Any) -> tuple[str, ...]:
    """The classes a loaded detector of mmdetection knows; one class of no name where it says none."""
    meta = getattr(model, "dataset_meta", None) or {}
    names = meta.get("classes", meta.get("CLASSES", ()))
    return tuple(map(str, (names,) if isinstance(names, str) else names)) or ("person",)


def person_label(labels: Sequence[str], config: Path) -> int:
    """The class that counts as a person: the one of that name, or the only one.

    Raises:
        ModelError: several classes and no person.
    """
    names = [name.lower() for name in labels]
    for name in ("person", "people", "pedestrian", "human"):
        if name in names:
            return names.index(name)
    if len(names) == 1:
        return 0
    some = ", ".join(labels[:5])
    raise ModelError(f"{config}: expected a detector with a class person, found {some}; give one that finds people")


def _boxes(instances: Any) -> Boxes:
    return (
        np.asarray(instances.bboxes.detach().cpu(), np.float32).reshape(-1, 4),
        np.asarray(instances.scores.detach().cpu(), np.float32),
        np.asarray(instances.labels.detach().cpu(), np.int64),
    )


def _unusable(problem: BaseException) -> ModelError:
    return ModelError(
        f"mmdetection is installed and cannot be imported ({_short(problem)}); docs/mmdet.md has versions that fit "
        "together"
    )


def _short(problem: BaseException) -> str:
    return first_line(problem)[:200]
