"""What a writer of a format hands back, and what it is handed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from export.config import ExportConfig
from lite.graph import PixelGraph


@dataclass(frozen=True, kw_only=True)
class Written:
    """What the artifact's JSON must say besides the graph's own spec.

    Attributes:
        versions: library name -> version used to write the file, beyond torch and hpe-lite.
        device: "any", or the device kind and capability the file is tied to.
        native: whether it holds machine code, so that its hash goes into the user's trust file.
    """

    versions: dict[str, str] = field(default_factory=dict)
    device: str = "any"
    native: bool = False


# `calibration()` gives (N, h, w, 3) uint8 RGB crops to find the value ranges of int8 with. A writer makes `path` and,
# in the same folder, files whose names begin with `path.stem`: those become the spec's companions.
Calibration = Callable[[], np.ndarray]
Writer = Callable[[PixelGraph, Path, ExportConfig, Calibration], Written]
