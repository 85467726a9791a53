"""`ExportConfig`: what `hpe-lite export` can be told. Nothing here imports torch."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from lite.config import MOST_THREADS
from lite.errors import ConfigError

MOST_CROPS = 2**16  # in one batch; a description that says more is refused when the file is opened
SUFFIXES = {"pt2": ".pt2", "onnx": ".onnx", "openvino": ".xml", "tensorrt": ".engine"}
# What each format can carry.
MODES = {
    "pt2": ("float32", "float16", "bfloat16"),
    "onnx": ("float32", "float16", "bfloat16", "int8"),
    "openvino": ("float32", "float16", "bfloat16", "int8"),
    "tensorrt": ("float32", "float16", "bfloat16", "int8"),
}
# What `check_only` heeds; everything else is as the file was made.
READ_BY_CHECK = ("check_only", "model", "checkpoint", "check_images", "backend", "device", "trust", "threads")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Turn a network into a file that runs without its code.

    Attributes:
        model: zoo name; may be left out when the checkpoint alone tells.
        checkpoint: weights file; left out, the zoo model's own weights are looked for.
        format: kind of file to write.
        mode: precision of the network inside; everything around it is float32.
        output: file to write; default checkpoints/<model>_<mode>.<format>.
        flip_test: average every crop with its mirror image, twice the work.
        compile: pt2 only; package machine code for this kind of processor (AOTInductor) instead of a portable program.
        device: where the file is made and checked; a compiled or TensorRT file runs only on that kind of device.
        backend: what to check the file with; auto takes the one that would run it there.
        batch_max: largest batch the file accepts.
        batch_opt: TensorRT only; the batch the file is tuned for.
        check_images: picture, folder or list of pictures to check with, besides the ones that come along.
        calibration_images: int8 only; picture, folder or list of pictures to find the value ranges with.
        calibration_crops: int8 only; crops to find the value ranges with; None takes 64 of up to 320 x 320 px, fewer of
            larger ones, 8 of 1024 x 768 px.
        check_only: exported file to check again instead of writing one; format, mode and the like are the file's.
        overwrite: replace a file of the same name.
        trust: open checkpoints that can run code.
        threads: CPU threads; None leaves the setting alone.
    """

    model: str | None = None
    checkpoint: str | None = None
    format: Literal["pt2", "onnx", "openvino", "tensorrt"] = "pt2"
    mode: Literal["float32", "float16", "bfloat16", "int8"] = "float32"
    output: str | None = None
    flip_test: bool = False
    compile: bool = False
    device: str = "cpu"
    backend: str = "auto"
    batch_max: int = 64
    batch_opt: int = 8
    check_images: str | None = None
    calibration_images: str | None = None
    calibration_crops: int | None = None
    check_only: str | None = None
    overwrite: bool = False
    trust: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.model is None and self.checkpoint is None:
            raise ConfigError("export needs a network; give --model NAME, --checkpoint FILE or both")
        if self.check_only is not None:
            self._check_only_what_it_reads()
        if self.format not in SUFFIXES:
            raise ConfigError(f"format: expected one of {', '.join(SUFFIXES)}, found {self.format!r}")
        if self.mode not in MODES[self.format]:
            raise ConfigError(
                f"mode: {self.format} files can be {', '.join(MODES[self.format])}, found {self.mode!r}; "
                "choose another mode or format"
            )
        if self.compile and self.format != "pt2":
            raise ConfigError(f"compile: expected format pt2, found {self.format}; leave one of them out")
        if not 2 <= self.batch_max <= MOST_CROPS:
            raise ConfigError(f"batch_max: expected 2 to {MOST_CROPS}, found {self.batch_max}")
        if not 1 <= self.batch_opt <= self.batch_max and self.format == "tensorrt":
            raise ConfigError(f"batch_opt: expected 1 to batch_max ({self.batch_max}), found {self.batch_opt}")
        if self.threads is not None and not 1 <= self.threads <= MOST_THREADS:
            raise ConfigError(f"threads: expected 1 to {MOST_THREADS}, found {self.threads}")
        if self.calibration_crops is not None and self.calibration_crops < 1:
            raise ConfigError(f"calibration_crops: expected at least 1, found {self.calibration_crops}")
        suffix = SUFFIXES[self.format]
        if self.output is not None and Path(self.output).suffix != suffix:
            raise ConfigError(
                f"output: expected a name ending in {suffix} for format {self.format}, found {self.output}"
            )

    def _check_only_what_it_reads(self) -> None:
        given = [f.name for f in fields(self) if f.name not in READ_BY_CHECK and getattr(self, f.name) != f.default]
        if given:
            raise ConfigError(f"{given[0]}: with check_only it is the file's own; leave it out")
