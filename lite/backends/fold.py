"""Batch norm folded into the convolution before it: the same numbers with one memory pass fewer. Inference only."""

from copy import deepcopy
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def _pairs(parent: nn.Module) -> list[tuple[str, str]]:
    """Names of (convolution, norm) children where the second reads the first.

    In a `Sequential` the order says so. Elsewhere our networks name such pairs alike: `conv` + `bn`, `conv1` + `bn1`.
    """
    children = dict(parent.named_children())
    if isinstance(parent, nn.Sequential):
        names = list(children)
        candidates = list(pairwise(names))
    else:
        candidates = [(name, name.replace("conv", "bn")) for name in children if "conv" in name]
    return [
        (first, second)
        for first, second in candidates
        if isinstance(children[first], CONVOLUTIONS) and isinstance(children.get(second), NORMS)
    ]


def fold_batch_norm(network: nn.Module) -> int:
    """Fold every batch norm that follows a convolution; returns how many.

    A convolution shared by several parents (RTMDet's head) is copied, since each parent has a norm of its own.
    The network must be in eval mode; it is changed in place.
    """
    folded = 0
    for parent in list(network.modules()):
        for conv_name, norm_name in _pairs(parent):
            conv, norm = getattr(parent, conv_name), getattr(parent, norm_name)
            transposed = isinstance(conv, nn.ConvTranspose2d)
            if norm.running_mean is None or (transposed and conv.groups != 1):
                continue
            setattr(
                parent, conv_name, fuse_conv_bn_eval(deepcopy(conv), norm, transpose=transposed).requires_grad_(False)
            )
            setattr(parent, norm_name, nn.Identity())
            folded += 1
    return folded
