"""Settings of `hpe-lite train`; a recipe is a YAML file of them. Imports neither torch nor Lightning."""

from dataclasses import dataclass, field
from typing import Literal

from lite.errors import ConfigError


def _within(key: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{key}: expected a number from {low} to {high}, found {value}")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """One annotation file with its pictures.

    Attributes:
        annotations: COCO-format JSON.
        images: folder or uncompressed tar file; the JSON's file names are looked up in it.
        weight: how often each entry is seen in an epoch; 0.5 takes a new half each time.
        hold_out: share of the pictures kept for choosing the best weights, never trained on.
    """

    annotations: str
    images: str
    weight: float = 1.0
    hold_out: float = 0.0

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ConfigError(f"data.weight: expected a number above 0, found {self.weight}")
        _within("data.hold_out", self.hold_out, 0.0, 0.9)


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW and the course of its learning rate, counted in optimiser steps.

    Attributes:
        lr: at its highest.
        weight_decay: not applied to biases and norms.
        warmup_steps: linear climb from a thousandth of `lr`.
        schedule: after the climb: cosine down to `final_lr` times `lr`, drops by `gamma` at `milestones`, or constant.
        final_lr: share of `lr` at the end of a cosine.
        milestones: shares of all steps at which a step schedule drops.
        gamma: factor of each drop.
        clip_norm: gradients are shortened to this norm; 0 leaves them.
    """

    lr: float = 5e-4
    weight_decay: float = 0.05
    warmup_steps: int = 100
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    final_lr: float = 0.01
    milestones: list[float] = field(default_factory=lambda: [0.81, 0.95])
    gamma: float = 0.1
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        _within("optim.lr", self.lr, 0.0, 10.0)
        _within("optim.final_lr", self.final_lr, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes to a training picture; `*_prob` are probabilities.

    Attributes:
        flip_prob: mirror left and right.
        scale: the box (pose) or picture (detect) grows or shrinks by a factor in this range.
        rotation_deg: largest turn either way. rotation_prob: how often.
        shift: largest shift of the box as a share of its padded size. shift_prob: how often.
        half_body_prob: crop to the upper or lower body of well-labelled people.
        colour: strength of brightness, contrast, saturation and tint changes, 0 to 1.
        blur_prob: soften or shrink and enlarge the crop.
        cover_prob: cover a rectangle of the crop.
        mosaic_prob: four pictures in one (detect).
    """

    flip_prob: float = 0.5
    scale: tuple[float, float] = (0.75, 1.25)
    rotation_deg: float = 40.0
    rotation_prob: float = 0.6
    shift: float = 0.1
    shift_prob: float = 0.3
    half_body_prob: float = 0.2
    colour: float = 0.5
    blur_prob: float = 0.1
    cover_prob: float = 0.0
    mosaic_prob: float = 0.0

    def __post_init__(self) -> None:
        for key in ("flip_prob", "rotation_prob", "shift_prob", "half_body_prob", "colour", "blur_prob"):
            _within(f"augment.{key}", getattr(self, key), 0.0, 1.0)
        for key in ("cover_prob", "mosaic_prob"):
            _within(f"augment.{key}", getattr(self, key), 0.0, 1.0)
        low, high = self.scale
        if not 0 < low <= high:
            raise ConfigError(f"augment.scale: expected a range of numbers above 0, found {low} to {high}")


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """A network that shows the student what it does not get from labels.

    Attributes:
        weights: checkpoint or zoo name; unset trains without a teacher.
        weight: of the loss towards the teacher's outputs.
        flip_test: the teacher averages over the mirrored crop, too.
    """

    weights: str | None = None
    weight: float = 1.0
    flip_test: bool = True


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything a training run depends on.

    Attributes:
        task: what is learnt.
        model: zoo name of the network.
        init: checkpoint, or zoo name with weights, to start from; unset starts from random weights.
        data: what to learn from.
        validation: what to choose the best weights by, beside the held-out share of `data`.
        output: folder for weights, checkpoints and curves.
        epochs: passes over the data.
        batch_size: entries in one step.
        ema: decay of the running average of weights that is tested and kept; 0 keeps the last weights.
        loss: mse weighs every labelled keypoint alike, ohkm only the hardest `ohkm_top`.
        ohkm_top: see `loss`.
        precision: bf16 computes convolutions and matrix products in bfloat16.
        device: auto takes CUDA where there is one.
        seed: of every random draw.
        resume: auto goes on from the newest checkpoint in `output`; never starts again.
        save_minutes: time between checkpoints.
        log_steps: steps between lines of `metrics.csv`.
        num_workers: processes that read and change pictures; 0 reads in the main one.
        threads: processor threads of the network; unset leaves PyTorch's choice.
        limit: steps in an epoch at most, for a trial run.
        progress: show a progress bar.
    """

    task: Literal["pose", "detect"]
    model: str
    data: list[DataConfig]
    output: str
    init: str | None = None
    validation: list[DataConfig] = field(default_factory=list)
    optim: OptimConfig = field(default_factory=OptimConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    epochs: int = 10
    batch_size: int = 32
    ema: float = 0.999
    loss: Literal["mse", "ohkm"] = "mse"
    ohkm_top: int = 8
    precision: Literal["float32", "bf16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 0
    resume: Literal["auto", "never"] = "auto"
    save_minutes: float = 5.0
    log_steps: int = 20
    num_workers: int = 1
    threads: int | None = None
    limit: int | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        if not self.data:
            raise ConfigError("data: expected at least one entry with annotations and images, found none")
        least = {"epochs": 1, "batch_size": 1, "ohkm_top": 1, "log_steps": 1, "threads": 1, "limit": 1}
        for key, low in {**least, "num_workers": 0, "seed": 0}.items():
            value = getattr(self, key)
            if value is not None and value < low:
                raise ConfigError(f"{key}: expected at least {low}, found {value}")
        if self.device not in ("auto", "cpu", "cuda"):
            raise ConfigError(f"device: expected auto, cpu or cuda, found {self.device!r}")
        if not self.save_minutes > 0:
            raise ConfigError(f"save_minutes: expected a number above 0, found {self.save_minutes}")
        _within("ema", self.ema, 0.0, 0.999999)
