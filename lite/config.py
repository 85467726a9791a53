"""The settings of each command as frozen dataclasses; jsonargparse makes them flags and YAML keys of the same names.

Imports neither torch nor OpenCV, so that `--help` answers at once.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lite.errors import ConfigError

MODES = ("auto", "float32", "float16", "bfloat16", "int8")
BACKENDS = (
    "auto", "eager", "pt2", "onnxruntime", "onnxruntime-cuda", "onnxruntime-tensorrt", "openvino", "tensorrt",
)  # fmt: skip
DRAW_PARTS = ("skeleton", "points", "boxes", "labels", "classes", "heatmaps", "tags")
# OpenCV refuses thicker lines; torch crashes when asked for many thousand threads.
MOST_DRAWN_PX = 10_000
MOST_THREADS = 1024


def _at_least(key: str, value: float | None, least: float) -> None:
    if value is not None and not value >= least:
        raise ConfigError(f"{key}: expected at least {least}, found {value}")


def _at_most(key: str, value: float | None, most: float) -> None:
    if value is not None and not value <= most:
        raise ConfigError(f"{key}: expected at most {most}, found {value}")


def _a_folder(key: str, value: str | None) -> None:
    if value is not None and not Path(value).is_dir():
        raise ConfigError(
            f"{key}: expected a folder, found {'a file' if Path(value).exists() else 'nothing'} at {value}"
        )


def _within(key: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{key}: expected a number from {low} to {high}, found {value}")


def _one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{key}: expected one of {', '.join(choices)}, found {value!r}")


@dataclass(frozen=True, kw_only=True)
class InputConfig:
    """What to read.

    Attributes:
        input: picture, folder (searched with its subfolders), glob or .txt list of pictures; one or several.
        recursive: whether folders are searched with their subfolders.
        max_pixels: pictures with more pixels (width times height) are recorded as failed, not read.
    """

    input: str | list[str]
    recursive: bool = True
    max_pixels: int = 200_000_000

    def __post_init__(self) -> None:
        if not self.inputs or not all(isinstance(one, str) and one for one in self.inputs):
            raise ConfigError("input: expected a picture, folder, glob or .txt list, found nothing")
        _at_least("max_pixels", self.max_pixels, 1)

    @property
    def inputs(self) -> list[str]:
        """The inputs as a list, also when only one was given."""
        return [self.input] if isinstance(self.input, str) else list(self.input)


@dataclass(frozen=True, kw_only=True)
class DeviceConfig:
    """Where and how networks run.

    Attributes:
        mode: precision of an eager network; auto takes the fastest that keeps accuracy (an artifact has its own).
        backend: what runs an exported file; auto takes the fastest that is installed and says which. Zoo models and
            checkpoints run eagerly.
        device: auto, cpu, cuda, cuda:1, ...
        batch_size: people, or pictures of networks that take whole ones, in one forward pass at most; unset follows the
            size of the network and its input.
        frame_batch: pictures handled together at most.
        threads: processor threads of the networks altogether; unset takes all cores.
        checkpoints: folder searched first for weights.
        trust: open files that could run code (other people's TorchScript, compiled packages).
    """

    mode: Literal["auto", "float32", "float16", "bfloat16", "int8"] = "auto"
    backend: Literal[
        "auto", "eager", "pt2", "onnxruntime", "onnxruntime-cuda", "onnxruntime-tensorrt", "openvino", "tensorrt"
    ] = "auto"
    device: str = "auto"
    batch_size: int | None = None
    frame_batch: int = 16
    threads: int | None = None
    checkpoints: str | None = None
    trust: bool = False

    def __post_init__(self) -> None:
        _one_of("mode", self.mode, MODES)
        _one_of("backend", self.backend, BACKENDS)
        _at_least("batch_size", self.batch_size, 1)
        _at_least("frame_batch", self.frame_batch, 1)
        _at_least("threads", self.threads, 1)
        _at_most("threads", self.threads, MOST_THREADS)
        _a_folder("checkpoints", self.checkpoints)
        if not self.device:
            raise ConfigError("device: expected auto, cpu, cuda or cuda:N, found nothing")


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """Who finds the people.

    Attributes:
        detector: zoo name, checkpoint or artifact of a detector; unset takes the built-in one where boxes are needed;
            none makes the whole picture one box.
        det_config: mmdetection config (.py) that describes det_checkpoint; that of an RTMDet is read and never run, any
            other runs in the installed mmdetection, with trust.
        det_checkpoint: weights that go with det_config.
        bbox_thr: people with a lower detection score are left out.
        nms_thr: of two boxes that overlap more than this (IoU) the lower-scored one is left out.
        max_people: people kept in one picture, best first; unset keeps all, of a bottom-up network 30.
    """

    detector: str | None = None
    det_config: str | None = None
    det_checkpoint: str | None = None
    bbox_thr: float = 0.3
    nms_thr: float = 0.3
    max_people: int | None = None

    def __post_init__(self) -> None:
        _within("bbox_thr", self.bbox_thr, 0, 1)
        _within("nms_thr", self.nms_thr, 0, 1)
        _at_least("max_people", self.max_people, 1)
        if self.det_config and not self.det_checkpoint:
            raise ConfigError("det_checkpoint: expected the weights that go with det_config, found nothing")
        if self.detector is not None and self.det_checkpoint:
            raise ConfigError("detector: expected either detector or det_checkpoint, found both; leave one out")


@dataclass(frozen=True, kw_only=True)
class DrawConfig:
    """How overlay pictures look.

    Attributes:
        draw: several of these joined by commas, or none for no pictures: skeleton (points and links), points, boxes,
            labels (of a segmentation network), classes (of a classification network); in pictures of their own, of a
            bottom-up network: heatmaps, tags.
        kpt_thr: keypoints with a lower score are not drawn (the JSON has them all).
        radius: of keypoints in px; unset follows the size of picture and person.
        thickness: of links and boxes in px; unset follows the size of picture and person.
        opacity: of labels over the picture, 0 to 1.
    """

    draw: str = "skeleton,labels,classes"
    kpt_thr: float = 0.3
    opacity: float = 0.5
    radius: int | None = None
    thickness: int | None = None

    def __post_init__(self) -> None:
        if self.draw != "none":
            for part in self.draw.split(","):
                _one_of("draw", part.strip(), (*DRAW_PARTS, "none"))
        _within("kpt_thr", self.kpt_thr, 0, 1)
        _within("opacity", self.opacity, 0, 1)
        for key, value in (("radius", self.radius), ("thickness", self.thickness)):
            _at_least(key, value, 1)
            _at_most(key, value, MOST_DRAWN_PX)

    @property
    def parts(self) -> frozenset[str]:
        """What is drawn; empty for no overlay pictures."""
        return frozenset(part.strip() for part in self.draw.split(",")) - {"none"}


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What is particular to one kind of network.

    Attributes:
        labels: classes of a segmentation network: goliath28, face19, lip20, cihp20, or a TOML or JSON file with names,
            and if wanted palette and swaps; unset follows the model.
        label_resize: how labels get from the network to the picture: once, straight to the picture's size, or twice, by
            way of the network's input size as in the original's evaluation; a few boundary pixels differ.
        tag_thr: bottom-up: a keypoint joins a person whose tags differ by less than this.
        det_thr: bottom-up: candidates of keypoints that score no more are left out.
        person_thr: bottom-up: people with a lower score are left out.
        refine: bottom-up: look for the keypoints that a person lacks where its tags fit best.
        keep_people: bottom-up, of more people than max_people: the best stay, or those found first as in the original,
            which then also looks at no more candidates of a keypoint.
        rounded_tags: bottom-up: tell people apart by tag distances rounded to whole numbers, as published; otherwise
            the nearest tag decides.
        merge_equal_tags: bottom-up: make one person of two whose tags are equal to the last bit, as the original.
        top: classification: number of classes in the results.
    """

    labels: str | None = None
    label_resize: Literal["once", "twice"] = "once"
    tag_thr: float = 0.5
    det_thr: float = 0.05
    person_thr: float = 0.0
    refine: bool = True
    keep_people: Literal["best", "first"] = "best"
    rounded_tags: bool = True
    merge_equal_tags: bool = False
    top: int = 5

    def __post_init__(self) -> None:
        _one_of("label_resize", self.label_resize, ("once", "twice"))
        _one_of("keep_people", self.keep_people, ("best", "first"))
        for key in ("det_thr", "person_thr"):
            _within(key, getattr(self, key), 0, 1)
        _within("tag_thr", self.tag_thr, 0, 1000)
        _at_least("top", self.top, 1)


@dataclass(frozen=True, kw_only=True)
class InferConfig(DrawConfig, TaskConfig, DetectorConfig, DeviceConfig, InputConfig):
    """`hpe-lite infer`: photographs in, keypoints, labels or classes out.

    Attributes:
        output: folder for results; created, and never the folder the pictures are in.
        model: zoo name, checkpoint or artifact of a network; unset takes the built-in one. Several, one of each kind
            (keypoints, segmentation, classification), share reading and detection.
        flip_test: average with the mirrored crop; unset follows the model.
        format: file format of the results.
        quiet: no progress and no summary.
    """

    output: str = "results"
    model: str | list[str] | None = None
    flip_test: bool | None = None
    format: Literal["json"] = "json"
    quiet: bool = False

    def __post_init__(self) -> None:
        for part in (InputConfig, DeviceConfig, DetectorConfig, TaskConfig, DrawConfig):
            part.__post_init__(self)
        if self.model is not None and not all(self.models):
            raise ConfigError("model: expected zoo names, checkpoints or artifacts, found nothing")
        if not self.output:
            raise ConfigError("output: expected a folder for results, found nothing")
        _one_of("format", self.format, ("json",))

    @property
    def models(self) -> list[str]:
        """The models as a list; empty for the built-in one."""
        return [self.model] if isinstance(self.model, str) else list(self.model or [])


@dataclass(frozen=True, kw_only=True)
class BenchConfig(DetectorConfig, DeviceConfig, InputConfig):
    """`hpe-lite bench`: where the time goes.

    Attributes:
        model: zoo name, checkpoint or artifact of a network; unset takes the built-in one; several as for infer.
        flip_test: average with the mirrored crop; unset follows the model.
        draw: overlay pictures to draw and write as well, as for infer.
        repeat: passes over the pictures; the fastest counts.
        json: print JSON instead of a table.
    """

    model: str | list[str] | None = None
    flip_test: bool | None = None
    draw: str = "none"
    repeat: int = 3
    json: bool = False

    def __post_init__(self) -> None:
        for part in (InputConfig, DeviceConfig, DetectorConfig):
            part.__post_init__(self)
        _at_least("repeat", self.repeat, 1)
        self.infer("unused")

    def infer(self, output: str) -> InferConfig:
        """The same run as `hpe-lite infer` would make it, with its results in `output`."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("repeat", "json")}
        return InferConfig(**own, output=output, quiet=True)


@dataclass(frozen=True, kw_only=True)
class BenchModelConfig:
    """`hpe-lite bench model`: the rate of one network or exported file beside the machine's own.

    Attributes:
        model: zoo name, checkpoint or artifact.
        backend: what runs an exported file; auto takes the fastest that is installed and says which.
        mode: precision of an eager network; auto takes the fastest that keeps accuracy (an artifact has its own).
        device: auto, cpu, cuda, cuda:1, ...
        batch_size: crops in one forward pass; several joined by commas.
        seconds: about how long each batch size is measured for.
        flip_test: average with the mirrored crop; unset follows the model.
        threads: processor threads; unset takes all cores.
        checkpoints: folder searched first for weights.
        trust: open files that could run code (other people's TorchScript, compiled packages).
        json: print JSON instead of a table.
    """

    model: str
    backend: Literal[
        "auto", "eager", "pt2", "onnxruntime", "onnxruntime-cuda", "onnxruntime-tensorrt", "openvino", "tensorrt"
    ] = "auto"
    mode: Literal["auto", "float32", "float16", "bfloat16", "int8"] = "auto"
    device: str = "auto"
    batch_size: str | int = "1,8"
    seconds: float = 5.0
    flip_test: bool | None = None
    threads: int | None = None
    checkpoints: str | None = None
    trust: bool = False
    json: bool = False

    def __post_init__(self) -> None:
        if not all(part.strip().isdecimal() and int(part) >= 1 for part in str(self.batch_size).split(",")):
            raise ConfigError(f"batch_size: expected numbers from 1 joined by commas, found {self.batch_size!r}")
        _within("seconds", self.seconds, 0, 3600)
        _at_least("threads", self.threads, 1)
        _at_most("threads", self.threads, MOST_THREADS)
        _a_folder("checkpoints", self.checkpoints)

    @property
    def batch_sizes(self) -> list[int]:
        """The batch sizes in the order given."""
        return [int(part) for part in str(self.batch_size).split(",")]


@dataclass(frozen=True, kw_only=True)
class ModelsConfig:
    """`hpe-lite models`: what can be named.

    Attributes:
        json: print JSON instead of a table.
        checkpoints: folder searched first for weights.
    """

    json: bool = False
    checkpoints: str | None = None

    def __post_init__(self) -> None:
        _a_folder("checkpoints", self.checkpoints)


@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """`hpe-lite inspect FILE`: what a file is.

    Attributes:
        file: checkpoint, artifact or zoo name.
        json: print JSON instead of text.
        trust: open files that could run code.
    """

    file: str
    json: bool = False
    trust: bool = False

    def __post_init__(self) -> None:
        if not self.file:
            raise ConfigError("file: expected a checkpoint, artifact or zoo name, found nothing")
