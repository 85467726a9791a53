"""HRNet files of other origins under the names of pytorch-human-pose: the originals, mmpose 0.x and mmpose 1.x."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from lite.errors import CheckpointError

WIDTH_KEY = "backbone.stages.0.transition_layer.transition_blocks.0.0.weight"  # its first size is the width
# (pattern of the whole name, replacement), names without any prefix; the first that fits is used.
BACKBONE = (
    (r"(conv[12]|bn[12])\.(.+)", r"backbone.\1.\2"),
    (r"layer1\.(\d+)\.(.+)", r"backbone.stages.0.blocks.0.scales_blocks.0.\1.\2"),
    (r"transition1\.0\.(\d+)\.(.+)", r"backbone.stages.0.transition_layer.transition_blocks.0.\1.\2"),
)
NEW_BRANCH = re.compile(r"transition([123])\.(\d+)\.0\.(\d+)\.(.+)")
MODULE = re.compile(r"stage([234])\.(\d+)\.(branches|fuse_layers)\.(.+)")
CLASSIFIER = (
    (r"incre_modules\.(\d+)\.0\.(.+)", r"classification_head.chann_incr_blocks.\1.\2"),
    (r"downsamp_modules\.(.+)", r"classification_head.downsample_blocks.\1"),
    (r"final_layer\.([01]\..+)", r"classification_head.final_conv.\1"),
    (r"classifier\.(.+)", r"classification_head.classifier.\1"),
)
POSE = (
    (r"final_layers\.0\.(.+)", r"init_heatmaps_head.\1"),
    (r"final_layer\.(weight|bias)", r"init_heatmaps_head.\1"),  # mmpose 1.x, one resolution
    (r"deconv_layers\.(\d+)\.0\.(.+)", r"deconv_layers.\1.deconv.\2"),
)
HEADS = ("keypoint_head.", "head.")


def is_hrnet(state: Iterable[str]) -> bool:
    """Whether an HRNet is among these names, of any origin."""
    names = _bare(set(state))
    return WIDTH_KEY in names or any(
        f"{prefix}stage4.0.branches.3.0.conv1.weight" in names for prefix in ("", "backbone.")
    )


def to_upstream_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors as pytorch-human-pose names them; names no rule knows stay as they are.

    Counters of batches, which very old files lack and inference does not need, are added as 0.
    """
    bare = _bare(state)
    renamed = {upstream_name(name): tensor for name, tensor in bare.items()}
    for name in [name for name in renamed if name.endswith("running_var")]:
        renamed.setdefault(name.replace("running_var", "num_batches_tracked"), torch.tensor(0))
    return renamed


def upstream_name(name: str) -> str:
    """One name of any origin, without the `1.` of some originals."""
    inner = name.removeprefix("backbone.")
    if match := NEW_BRANCH.fullmatch(inner):
        stage, branch, place, rest = match.groups()
        return f"backbone.stages.{int(stage) - 1}.transition_layer.transition_blocks.{branch}.{place}.{rest}"
    if match := MODULE.fullmatch(inner):
        stage, module, kind, rest = match.groups()
        block, part = (0, "scales_blocks") if kind == "branches" else (1, "scales_fusion_layers")
        return f"backbone.stages.{int(stage) - 1}.blocks.{2 * int(module) + block}.{part}.{rest}"
    for pattern, replacement in BACKBONE:
        if match := re.fullmatch(pattern, inner):
            return match.expand(replacement)
    if inner != name:
        return name
    for head in HEADS:
        name = name.removeprefix(head)
    if match := re.fullmatch(r"final_layers\.([1-9])\.(.+)", name):
        return f"deconv_layers.{int(match[1]) - 1}.final_layer.{match[2]}"
    if match := re.fullmatch(r"deconv_layers\.(\d+)\.([1-9])\.0\.(.+)", name):
        return f"deconv_layers.{match[1]}.resid_blocks.{int(match[2]) - 1}.{match[3]}"
    for pattern, replacement in (*CLASSIFIER, *POSE):
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement)
    return name


def _bare(state: Any) -> Any:
    """Without the `1.` that every name of some original files begins with; a set of names or a mapping."""
    if not state or not all(name.startswith("1.") for name in state):
        return state
    if isinstance(state, set):
        return {name[2:] for name in state}
    return {name[2:]: tensor for name, tensor in state.items()}


def first_size(state: Mapping[str, Tensor], name: str) -> int:
    """Length of a tensor's first axis.

    Raises:
        CheckpointError: it is not there or is a single number.
    """
    if name not in state or state[name].ndim == 0:
        raise CheckpointError(f"expected an HRNet, found no tensor {name} with sizes; the file is not complete")
    return state[name].shape[0]
