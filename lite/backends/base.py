"""What every backend offers: one file or network on one device, arrays in, arrays out."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np

from lite.artifact import ArtifactSpec
from lite.errors import DeviceMemoryError, HpeLiteError, ModelError, first_line
from lite.network import LARGEST_ASPECT, Network, any_size


class Backend(Network, Protocol):
    """Runs one pixel graph.

    Attributes:
        device: "cpu", "cuda:0", ...
        describe: one line for people: model, format, mode and why, device.
    """

    device: str
    describe: str

    def close(self) -> None:
        """Give memory back; the backend cannot run afterwards."""
        ...


def check_pixels(spec: ArtifactSpec, pixels: np.ndarray) -> None:
    """Refuse a batch that the graph was not made for.

    Raises:
        ModelError: wrong size, layout or dtype, or more crops than the file accepts.
    """
    height, width = spec.input_hw
    fits = pixels.dtype == np.uint8 and pixels.ndim == 4 and pixels.shape[3] == 3
    if any_size(spec):
        least, step = min(height, width), spec.frame.multiple
        most = LARGEST_ASPECT * least
        wanted = f"(B, h, w, 3) with h and w from {least} to {most} in steps of {step}"
        fits = fits and all(least <= side <= most and side % step == 0 for side in pixels.shape[1:3])
    else:
        wanted = f"(B, {height}, {width}, 3)"
        fits = fits and pixels.shape[1:3] == (height, width)
    if not fits:
        found = f"{tuple(pixels.shape)} {pixels.dtype.name}"
        raise ModelError(f"{spec.model}: expected pixels {wanted} uint8, found {found}")
    most = spec.batch_range[1]
    if len(pixels) > most:
        raise ModelError(f"{spec.model}: at most {most} crops at once, found {len(pixels)}; use a smaller batch size")


@contextmanager
def in_words(spec: ArtifactSpec, runtime: str, count: int) -> Iterator[None]:
    """Around a run of `count` crops: what a runtime raises, each in kinds of its own, becomes one sentence.

    Raises:
        DeviceMemoryError: memory did not suffice.
        ModelError: it failed otherwise.
    """
    try:
        yield
    except HpeLiteError:
        raise
    except Exception as problem:
        first = first_line(problem)[:200]
        if isinstance(problem, MemoryError) or "alloc" in first.lower() or "out of memory" in first.lower():
            raise DeviceMemoryError(
                f"{spec.model}: {count} crops at once need more memory than there is; use a smaller batch size"
            ) from problem
        raise ModelError(
            f"{spec.model}: {runtime} failed while running it ({first}); try another --backend or export it again"
        ) from problem
