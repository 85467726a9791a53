"""What the stages ask of a network, whoever runs it: pixels in, the outputs its spec promises out."""

from typing import Protocol

import numpy as np

from lite.artifact import ArtifactSpec

LARGEST_ASPECT = 4  # of an input whose size varies; what a longer frame becomes is up to the stage


# Task -> names of what a pixel graph returns, in order.
OUTPUTS = {
    "pose": ("keypoints", "scores"),
    "detect": ("boxes", "scores", "labels"),
    "segment": ("logits",),
    "classify": ("probabilities",),
    "pose-bottom-up": ("keypoints", "scores", "tags", "heatmaps", "tag_maps"),
}


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
    """The outputs of no crops at all; runtimes disagree about batch 0, so none is asked. Sides that vary are 0."""
    return {
        output.name: np.zeros([side if isinstance(side, int) else 0 for side in ("N", *output.shape[1:])], output.dtype)
        for output in spec.outputs
    }


def any_size(spec: ArtifactSpec) -> bool:
    """Whether the input size varies with the frame; then both sides are whole multiples of `spec.frame.multiple`."""
    return spec.frame is not None and spec.frame.kind == "short-side"
