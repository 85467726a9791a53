"""What the stages ask of a network, whoever runs it: pixels in, the outputs its spec promises out."""

from typing import Protocol

import numpy as np

from lite.artifact import ArtifactSpec


class Network(Protocol):
    """Runs crops or canvases.

    Attributes:
        spec: what goes in and what comes out.
    """

    spec: ArtifactSpec

    def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs of a batch; (B, h, w, 3) uint8 RGB in, B from 0 to `spec.batch_range[1]`."""
        ...


def empty_outputs(spec: ArtifactSpec) -> dict[str, np.ndarray]:
    """The outputs of no crops at all; runtimes disagree about batch 0, so none is asked."""
    return {output.name: np.zeros((0, *output.shape[1:]), dtype=output.dtype) for output in spec.outputs}
