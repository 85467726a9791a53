"""The settings of `split`. Imports no torch, so that `--help` answers at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lite.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """`hpe-lite split CHECKPOINT --output FOLDER`: a network for several data sets into one file for each.

    Attributes:
        checkpoint: file, folder as transformers writes it, or zoo name.
        output: folder for the files, created if need be.
        datasets: which ones to write (coco17, aic14, mpii16, ap10k17, apt36k17, wholebody133); unset is all.
        format: safetensors, or pth as the original reads it.
        trust: open a file that names unknown classes; nothing in it is imported or run even then.
    """

    checkpoint: str
    output: str
    datasets: str | list[str] | None = None
    format: Literal["safetensors", "pth"] = "safetensors"
    trust: bool = False

    def __post_init__(self) -> None:
        if not self.checkpoint:
            raise ConfigError("checkpoint: expected a file, folder or zoo name, found nothing")
        if not self.output:
            raise ConfigError("output: expected a folder for the files, found nothing; name one with --output")
        if Path(self.output).exists() and not Path(self.output).is_dir():
            raise ConfigError(f"output: expected a folder, found a file at {self.output}; name another")

    @property
    def wanted(self) -> list[str] | None:
        """The data sets as a list; None for all."""
        return [self.datasets] if isinstance(self.datasets, str) else self.datasets or None
