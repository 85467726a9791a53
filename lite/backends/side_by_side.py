"""A batch run as several single-threaded passes at once, on the CPU.

Inside one pass of several threads, what one core has computed the next layer reads on another, out of its neighbour's
cache. A part of the crops for each core keeps everything with the core that made it: ViTPose-B in bfloat16 took 249 ms
instead of 277 for 8 crops on two cores, 453 instead of 525 for 16. With one or two crops a core nothing is gained.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from lite.artifact import ArtifactSpec

CROPS_EACH = 4  # fewer for a core do not fill its matrix unit
LARGEST_CROP_PX = 300_000  # larger ones fill all cores by themselves, and need memory for each


def _alone() -> None:
    """Let this thread compute alone. Torch looks the number up once in each thread, at the first question."""
    torch.set_num_threads(1)
    torch.get_num_threads()


class SideBySide(nn.Module):
    """(B, h, w, 3) uint8 RGB in, dict of tensors out, as the graph it wraps; inference only.

    The threads start with the first batch that is large enough and end with the last reference to this.
    """

    @staticmethod
    def suits(spec: ArtifactSpec) -> bool:
        """Whether crops are small enough."""
        return spec.input_hw[0] * spec.input_hw[1] <= LARGEST_CROP_PX

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.graph = graph
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._threads = 0

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        threads = torch.get_num_threads()
        if threads == 1 or len(pixels) < CROPS_EACH * threads:
            return self.graph(pixels)
        parts = list(self._started(threads).map(self._part, pixels.tensor_split(threads)))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    @torch.inference_mode()  # which holds for one thread only
    def _part(self, pixels: Tensor) -> dict[str, Tensor]:
        return self.graph(pixels)

    def _started(self, threads: int) -> ThreadPoolExecutor:
        """Threads that compute with one thread each."""
        with self._lock:
            if self._pool is None or self._threads != threads:
                self._pool = ThreadPoolExecutor(threads, "crops", _alone)
                together = threading.Barrier(threads)
                list(self._pool.map(lambda _: together.wait(), range(threads)))
                torch.set_num_threads(threads)  # the number for threads to come, which the new ones have set to 1
                self._threads = threads
            return self._pool
