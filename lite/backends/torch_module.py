"""What the eager and the pt2 backend share: a torch module from pixels to named outputs, run on arrays."""

import numpy as np
import torch
from torch import nn

from lite.artifact import ArtifactSpec
from lite.backends.base import check_pixels, empty_outputs


class TorchModuleBackend:
    """See `lite.backends.base.Backend`.

    Args:
        module: (B, h, w, 3) uint8 RGB in, dict of tensors out; already on `device`.
        kind: what `describe` says between the model's name and the device.
    """

    def __init__(self, module: nn.Module, spec: ArtifactSpec, device: torch.device, kind: str) -> None:
        self.module = module
        self.spec = spec
        self.device = str(device)
        self.describe = f"{spec.model}, {kind} on {device}"

    @torch.inference_mode()
    def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs of a batch of (B, h, w, 3) uint8 RGB crops."""
        check_pixels(self.spec, pixels)
        if len(pixels) == 0:
            return empty_outputs(self.spec)
        outputs = self.module(torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device))
        return {name: value.cpu().numpy() for name, value in outputs.items()}

    def close(self) -> None:
        """Drop the module."""
        del self.module
