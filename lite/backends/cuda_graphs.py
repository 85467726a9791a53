"""Forwards recorded once per batch size and replayed: a GPU then waits for no Python between its kernels.

That matters where a forward is hundreds of kernels of a few microseconds: small networks and small batches. Batches are
padded to the next power of two, whose last crops are whatever lay there, and their outputs dropped; large batches are
run as they come, since there the padding would cost more than the waiting.
"""

import threading
from collections.abc import Callable

import torch
from torch import Tensor

from lite.artifact import ArtifactSpec

# Batches of up to so many pixels are replayed: 64 crops of 256x192, 8 of 640x640, 4 of 1024x768.
MOST_PX = 4 * 2**20
WARM_UPS = 3  # libraries choose kernels and take memory in the first calls, which must not be recorded
# Beginning to record waits for the whole GPU, which is an error while another thread records on it.
RECORDING = threading.Lock()


def graph_limit(spec: ArtifactSpec) -> int:
    """Largest batch that is replayed, a power of two; 0 when even one crop is too large."""
    height, width = spec.input_hw
    most = min(MOST_PX // (height * width), spec.batch_range[1])
    return 0 if most < 1 else 1 << (most.bit_length() - 1)


def bucket(count: int) -> int:
    """The power of two that `count` crops are padded to."""
    return 1 << (count - 1).bit_length()


class CudaGraphs:
    """A module that replays itself; one call at a time.

    Args:
        module: (B, h, w, 3) uint8 in, dict of tensors (B, ...) out, on the GPU; it must not wait for the GPU inside.
        input_hw: (h, w) of a crop, px.
        limit: largest batch to replay, a power of two; larger ones are run as they are.
        device: the GPU.
    """

    def __init__(
        self,
        module: Callable[[Tensor], dict[str, Tensor]],
        input_hw: tuple[int, int],
        limit: int,
        device: torch.device,
    ) -> None:
        self.module, self.input_hw, self.limit, self.device = module, input_hw, limit, device
        self.recorded: dict[int, tuple[Callable[[], None], Tensor, dict[str, Tensor]]] = {}
        self._pool = None

    def __call__(self, pixels: Tensor) -> dict[str, Tensor]:
        """Outputs of (B, h, w, 3) uint8 crops, as tensors that no later call changes."""
        count = len(pixels)
        if count > self.limit:
            return self.module(pixels)
        size = bucket(count)
        if size not in self.recorded:
            try:
                self.recorded[size] = self.record(size)
            except torch.cuda.OutOfMemoryError:
                raise
            except RuntimeError:
                if not self.recorded:  # the first one tells whether this module can be recorded at all
                    raise
                self.limit = size // 2
                return self.module(pixels)
        replay, given, outputs = self.recorded[size]
        given[:count].copy_(pixels)
        replay()
        return {name: value[:count].clone() for name, value in outputs.items()}

    def record(self, size: int) -> tuple[Callable[[], None], Tensor, dict[str, Tensor]]:
        """The replay of a forward of `size` crops, the tensor it reads and those it writes.

        Graphs share their scratch memory: they run one after the other and their outputs are copied in between.
        """
        given = torch.zeros((size, *self.input_hw, 3), dtype=torch.uint8, device=self.device)
        stream = torch.cuda.current_stream(self.device)
        for _ in range(WARM_UPS):
            self.module(given)
        stream.synchronize()
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the GPU meanwhile; only this one's calls are recorded and must be recordable.
        with RECORDING, torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
            outputs = self.module(given)
        return graph.replay, given, outputs
