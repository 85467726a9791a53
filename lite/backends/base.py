"""What every backend offers: one file or network on one device, arrays in, arrays out."""

from typing import Protocol

import numpy as np

from lite.artifact import ArtifactSpec
from lite.errors import ModelError


class Backend(Protocol):
    """Runs one pixel graph.

    Attributes:
        spec: what goes in and what comes out.
        device: "cpu", "cuda:0", ...
        describe: one line for people: model, format, mode and why, device.
    """

    spec: ArtifactSpec
    device: str
    describe: str

    def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs of a batch; (B, h, w, 3) uint8 RGB in, B from 0 to `spec.batch_range[1]`."""
        ...

    def close(self) -> None:
        """Give memory back; the backend cannot run afterwards."""
        ...


def check_pixels(spec: ArtifactSpec, pixels: np.ndarray) -> None:
    """Refuse a batch that the graph was not made for.

    Raises:
        ModelError: wrong size, layout or dtype, or more crops than the file accepts.
    """
    height, width = spec.input_hw
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (height, width, 3):
        found = f"{tuple(pixels.shape)} {pixels.dtype.name}"
        raise ModelError(f"{spec.model}: expected pixels (B, {height}, {width}, 3) uint8, found {found}")
    most = spec.batch_range[1]
    if len(pixels) > most:
        raise ModelError(f"{spec.model}: at most {most} crops at once, found {len(pixels)}; use a smaller batch size")


def empty_outputs(spec: ArtifactSpec) -> dict[str, np.ndarray]:
    """The outputs of no crops at all; runtimes disagree about batch 0, so none is asked."""
    return {output.name: np.zeros((0, *output.shape[1:]), dtype=output.dtype) for output in spec.outputs}
