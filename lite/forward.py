"""Crops -> raw network outputs, in chunks; the last chunk is as small as it is, not padded with empty crops."""

import numpy as np

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
    least, most = backend.spec.batch_range
    step = min(chunk, most) if chunk >= least else least
    if len(pixels) == 0:
        return empty_outputs(backend.spec)
    parts = [_run(backend, pixels[start : start + step], least) for start in range(0, len(pixels), step)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _run(backend: Network, pixels: np.ndarray, least: int) -> dict[str, np.ndarray]:
    n = len(pixels)
    if n < least:
        pixels = np.concatenate([pixels, np.zeros((least - n, *pixels.shape[1:]), np.uint8)])
    return {name: values[:n] for name, values in backend.run(pixels).items()}
