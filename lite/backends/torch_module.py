"""What the eager and the pt2 backend share: a torch module from pixels to named outputs, run on arrays."""

import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lite.artifact import ArtifactSpec
from lite.backends.base import check_pixels
from lite.backends.cuda_graphs import CudaGraphs, graph_limit
from lite.backends.devices import exact_float32
from lite.backends.transfer import Transfer
from lite.errors import DeviceMemoryError, first_line
from lite.network import any_size, empty_outputs


def _kept(outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies on a GPU, where a recorded graph writes its outputs to the same place every time."""
    return {name: value.clone() if value.is_cuda else value for name, value in outputs.items()}


class TorchModuleBackend:
    """See `lite.backends.base.Backend`.

    Args:
        module: (B, h, w, 3) uint8 RGB in, dict of tensors out; already on `device`.
        kind: what `describe` says between the model's name and the device.
        graphs: replay small batches on a GPU as CUDA graphs; `describe` says whether that is so.
    """

    def __init__(
        self, module: nn.Module, spec: ArtifactSpec, device: torch.device, kind: str, graphs: bool = True
    ) -> None:
        self.module = module
        self.spec = spec
        self.device = str(device)
        self._describe = f"{spec.model}, {kind} on {device}"
        self.describe = self._describe
        self._lock = nullcontext()
        self._call = module
        if device.type == "cuda":
            exact_float32()
            self._lock = threading.Lock()  # there is one stream, and one of each recorded graph
        self._transfer = Transfer(device)
        if device.type == "cuda":
            self.use_graphs(graph_limit(spec) if graphs and not any_size(spec) else 0)

    @torch.inference_mode()
    def use_graphs(self, limit: int) -> None:
        """Replay batches of up to `limit` crops (a power of two; 0: none) as CUDA graphs.

        A module that cannot be recorded is run as it is, and `describe` says so.

        Raises:
            DeviceMemoryError: there is no room for the batch of one crop that is tried.
        """
        self._call, self.describe = self.module, self._describe
        if limit == 0:
            return
        graphs = CudaGraphs(self.module, self.spec.input_hw, limit, self._transfer.device)
        try:
            with self._lock, self._transfer.in_use(self.spec, 1):
                graphs(torch.zeros((1, *self.spec.input_hw, 3), dtype=torch.uint8, device=self._transfer.device))
        except DeviceMemoryError:
            raise
        except RuntimeError as problem:  # what torch raises when a call cannot be recorded
            self.describe = f"{self._describe}, without CUDA graphs ({first_line(problem)})"
        else:
            self._call, self.describe = graphs, f"{self._describe}, CUDA graphs up to batch {limit}"

    @torch.inference_mode()
    def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs of a batch of (B, h, w, 3) uint8 RGB crops.

        Raises:
            ModelError: crops of another size, or too many for the file.
            DeviceMemoryError: too many for the device's memory.
        """
        if len(pixels) == 0:
            check_pixels(self.spec, pixels)
            return empty_outputs(self.spec)
        return self._run(pixels, self._transfer.take)

    @torch.inference_mode()
    def run_tensors(self, pixels: np.ndarray) -> dict[str, Tensor]:
        """As `run`, for at least one crop, with the outputs left on the device."""
        return self._run(pixels, _kept)

    def _run(self, pixels: np.ndarray, take: Callable[[dict[str, Tensor]], Any]) -> Any:
        check_pixels(self.spec, pixels)
        staged = self._transfer.stage(pixels)  # before the lock: while the device works on another thread's batch
        with self._lock, self._transfer.in_use(self.spec, len(pixels)):
            return take(self._call(self._transfer.give(staged)))

    def close(self) -> None:
        """Drop the module, and what was recorded of it."""
        del self.module, self._call
