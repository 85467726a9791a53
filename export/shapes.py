"""What is handed to `torch.export`: pixels as an example, and which of their sides vary."""

import torch
from torch import Tensor
from torch.export import Dim

from lite.artifact import ArtifactSpec
from lite.errors import ModelError
from lite.network import LARGEST_ASPECT, any_size

BATCH, ROWS, COLUMNS = "batch", "rows", "columns"  # names of the sides that vary


def example(spec: ArtifactSpec, batch: int, device: torch.device) -> Tensor:
    """(batch, h, w, 3) uint8; h and w differ where both may vary, so that tracing does not take them for equal."""
    height, width = spec.input_hw
    extra = spec.frame.multiple if any_size(spec) else 0
    return torch.zeros((batch, height, width + extra, 3), dtype=torch.uint8, device=device)


def dynamic_shapes(spec: ArtifactSpec, batch_max: int) -> dict[str, dict[int, Dim]]:
    """Any batch up to `batch_max`; rows and columns in whole multiples where the input size varies.

    Raises:
        ModelError: an input too small for its size to vary.
    """
    sides = {0: Dim(BATCH, min=1, max=batch_max)}
    if any_size(spec):
        step = spec.frame.multiple
        least = min(spec.input_hw) // step
        if least < 2:  # a side of one multiple is traced as a constant
            raise ModelError(
                f"{spec.model}: expected an input of at least {2 * step} px to export, found {min(spec.input_hw)}; "
                "load it at another size"
            )
        for axis, name in ((1, ROWS), (2, COLUMNS)):
            sides[axis] = step * Dim(f"{name}_{step}", min=least, max=LARGEST_ASPECT * least)
    return {"pixels": sides}
