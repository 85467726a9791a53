"""`ExportConfig`: what `hpe-lite export` can be told. Nothing here imports torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lite.errors import ConfigError

SUFFIXES = {"pt2": ".pt2"}
FORMATS = tuple(SUFFIXES)
MODES = ("float32", "bfloat16")


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
        batch_max: largest batch the file accepts.
        check_images: picture, folder or list of pictures to check with, besides the ones that come along.
        overwrite: replace a file of the same name.
        trust: open checkpoints that can run code.
        threads: CPU threads; None leaves the setting alone.
    """

    model: str | None = None
    checkpoint: str | None = None
    format: Literal["pt2"] = "pt2"
    mode: Literal["float32", "bfloat16"] = "float32"
    output: str | None = None
    flip_test: bool = False
    batch_max: int = 64
    check_images: str | None = None
    overwrite: bool = False
    trust: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.model is None and self.checkpoint is None:
            raise ConfigError("export needs a network; give --model NAME, --checkpoint FILE or both")
        for key, choices in (("format", FORMATS), ("mode", MODES)):
            if getattr(self, key) not in choices:
                raise ConfigError(f"{key}: expected one of {', '.join(choices)}, found {getattr(self, key)!r}")
        if self.batch_max < 2:
            raise ConfigError(f"batch_max: expected at least 2, found {self.batch_max}")
        suffix = SUFFIXES[self.format]
        if self.output is not None and Path(self.output).suffix != suffix:
            raise ConfigError(
                f"output: expected a name ending in {suffix} for format {self.format}, found {self.output}"
            )
