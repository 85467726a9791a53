"""Crops to a device and outputs back; on a GPU by a stream of its own, through page-locked memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from lite.artifact import ArtifactSpec
from lite.errors import DeviceMemoryError


class Transfer:
    """One backend's way to its device; but for `stage`, not for two threads at once.

    Args:
        device: where the crops go; what is on it already is complete for this stream.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        if self.stream is not None:
            self.stream.wait_stream(torch.cuda.default_stream(device))

    @property
    def handle(self) -> int:
        """The CUDA stream as runtimes other than torch want it; 0 on the CPU."""
        return 0 if self.stream is None else self.stream.cuda_stream

    @contextmanager
    def in_use(self, spec: ArtifactSpec, count: int) -> Iterator[None]:
        """What runs inside runs on the stream, and is over at the end.

        Raises:
            DeviceMemoryError: `count` crops at once were too many.
        """
        try:
            with torch.cuda.stream(self.stream):
                try:
                    yield
                finally:
                    self._wait()
        except torch.OutOfMemoryError:
            raise DeviceMemoryError(
                f"{spec.model}: {count} crops at once need more memory than {self.device} has free; use a smaller "
                "batch size"
            ) from None

    def stage(self, pixels: np.ndarray) -> Tensor:
        """(B, h, w, 3) uint8 in memory that the device reads by itself; any thread may call it at any time."""
        crops = torch.from_numpy(np.ascontiguousarray(pixels))
        return crops if self.stream is None else crops.pin_memory()

    def give(self, staged: Tensor) -> Tensor:
        """What `stage` gave, on the device."""
        return staged.to(self.device, non_blocking=True)

    def take(self, outputs: dict[str, Tensor]) -> dict[str, np.ndarray]:
        """Outputs as arrays; waits once for all of them."""
        here = {name: value.to("cpu", non_blocking=True) for name, value in outputs.items()}
        self._wait()
        return {name: value.numpy() for name, value in here.items()}

    def _wait(self) -> None:
        if self.stream is not None:
            self.stream.synchronize()
