"""From tensors to the HRNet they belong to: a classifier or a bottom-up pose network."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lite.errors import CheckpointError
from lite.models.higher_hrnet import higher_hrnet_from_tensors
from lite.models.hrnet import ClassificationHRNet, classes_spec
from lite.models.hrnet_names import WIDTH_KEY, first_size, is_hrnet, to_upstream_names
from lite.models.strict import load_strictly

STRIDE = 32  # input sides are multiples of it, or the branches do not meet
PUBLISHED_WIDTHS = (32, 48)


def match_hrnet(state: Mapping[str, Any]) -> bool:
    """Whether these are the tensors of an HRNet with some head, under the names of any known origin."""
    return is_hrnet(state)


def hrnet_from_state_dict(
    state: Mapping[str, Tensor],
    meta: Mapping[str, Any] | None = None,
    model: str | None = None,
    input_hw: tuple[int, int] | None = None,
) -> nn.Module:
    """The network these tensors belong to, strictly loaded, with `.spec`: a classifier or a bottom-up pose network.

    Args:
        state: names of pytorch-human-pose, the original, mmpose 0.x or 1.x.
        meta: what the file says about itself; not needed.
        model: zoo name.
        input_hw: input size in px, multiples of 32; as published when None.

    Raises:
        CheckpointError: tensors missing, left over or of another shape, a network of another kind, or a bad size.
    """
    if input_hw is not None and any(side < STRIDE or side % STRIDE for side in input_hw):
        raise CheckpointError(f"expected an input size in multiples of {STRIDE}, found {input_hw[0]}x{input_hw[1]}")
    state = to_upstream_names(state)
    width = first_size(state, WIDTH_KEY)
    if "init_heatmaps_head.weight" in state:
        return higher_hrnet_from_tensors(state, width, model, input_hw)
    if "classification_head.classifier.weight" not in state:
        raise CheckpointError(
            "expected an HRNet with an ImageNet head or with heatmaps and a tag for every joint, found one without; "
            "give a HigherHRNet or classification checkpoint"
        )
    num_classes = first_size(state, "classification_head.classifier.weight")
    with torch.device("meta"):
        network = ClassificationHRNet(width, num_classes)
    published = num_classes == 1000 and width in PUBLISHED_WIDTHS
    name = model or (f"hrnet-w{width}-imagenet1000" if published else "hrnet-custom")
    network.spec = classes_spec(name, input_hw or (224, 224), num_classes)
    return load_strictly(network, state, f"classification HRNet of width {width} with {num_classes} classes")
