"""Crops -> raw network outputs, in chunks; the last chunk is as small as it is, not padded with empty crops."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from lite.network import Network, empty_outputs


def forward(backend: Network, pixels: np.ndarray, chunk: int) -> dict[str, np.ndarray]:
    """Run any number of crops.

    Args:
        backend: one network on one device.
        pixels: (N, h, w, 3) uint8 RGB; N may be 0.
        chunk: crops in one run at most; the backend's own limit counts as well.

    Returns:
        The backend's outputs, first axis N. A backend that needs a least number of crops gets the tail filled up with
        black ones, and their outputs are dropped.
    """
    if len(pixels) == 0:
        return empty_outputs(backend.spec)
    parts = []
    for part in _chunks(backend, len(pixels), chunk):
        outputs = backend.run(_filled(backend, pixels[part]))
        parts.append({name: values[: part.stop - part.start] for name, values in outputs.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def forward_tensors(backend: Network, pixels: np.ndarray, chunk: int) -> Iterator[dict[str, Tensor]]:
    """The outputs of each chunk in turn, as tensors on the device they were computed on; no crops have no chunk."""
    for part in _chunks(backend, len(pixels), chunk):
        crops = _filled(backend, pixels[part])
        run = getattr(backend, "run_tensors", None)
        outputs = run(crops) if run else {name: torch.from_numpy(a) for name, a in backend.run(crops).items()}
        yield {name: values[: part.stop - part.start] for name, values in outputs.items()}


def _chunks(backend: Network, count: int, chunk: int) -> Iterator[slice]:
    least, most = backend.spec.batch_range
    step = min(chunk, most) if chunk >= least else least
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def _filled(backend: Network, pixels: np.ndarray) -> np.ndarray:
    """With black crops up to the least number the backend takes."""
    missing = backend.spec.batch_range[0] - len(pixels)
    return pixels if missing <= 0 else np.concatenate([pixels, np.zeros((missing, *pixels.shape[1:]), np.uint8)])
