"""ViTPose files of other origins under the original names: mmpose 1.x, transformers, pre-training."""

import re
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from lite.models.strict import check_axes, joined

Origin = Literal["original", "mmpose1x", "transformers"]

# (pattern of the whole name, replacement); the first that fits is used.
MMPOSE1X = (
    (r"backbone\.patch_embed\.projection\.(.+)", r"backbone.patch_embed.proj.\1"),
    (r"backbone\.layers\.(\d+)\.ln([12])\.(.+)", r"backbone.blocks.\1.norm\2.\3"),
    (r"backbone\.layers\.(\d+)\.attn\.(.+)", r"backbone.blocks.\1.attn.\2"),
    (r"backbone\.layers\.(\d+)\.ffn\.layers\.0\.0\.(.+)", r"backbone.blocks.\1.mlp.fc1.\2"),
    (r"backbone\.layers\.(\d+)\.ffn\.layers\.1\.(.+)", r"backbone.blocks.\1.mlp.fc2.\2"),
    (r"backbone\.ln1\.(.+)", r"backbone.last_norm.\1"),
    (r"head\.(.+)", r"keypoint_head.\1"),
)
TRANSFORMERS = (
    (r"backbone\.embeddings\.position_embeddings", r"backbone.pos_embed"),
    (r"backbone\.embeddings\.patch_embeddings\.projection\.(.+)", r"backbone.patch_embed.proj.\1"),
    (r"backbone\.encoder\.layer\.(\d+)\.layernorm_before\.(.+)", r"backbone.blocks.\1.norm1.\2"),
    (r"backbone\.encoder\.layer\.(\d+)\.layernorm_after\.(.+)", r"backbone.blocks.\1.norm2.\2"),
    (r"backbone\.encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.(.+)", r"backbone.blocks.\1.\2.\3"),
    (r"backbone\.encoder\.layer\.(\d+)\.attention\.output\.dense\.(.+)", r"backbone.blocks.\1.attn.proj.\2"),
    (r"backbone\.encoder\.layer\.(\d+)\.mlp\.(.+)", r"backbone.blocks.\1.mlp.\2"),
    (r"backbone\.layernorm\.(.+)", r"backbone.last_norm.\1"),
    (r"head\.deconv1\.(.+)", r"keypoint_head.deconv_layers.0.\1"),
    (r"head\.batchnorm1\.(.+)", r"keypoint_head.deconv_layers.1.\1"),
    (r"head\.deconv2\.(.+)", r"keypoint_head.deconv_layers.3.\1"),
    (r"head\.batchnorm2\.(.+)", r"keypoint_head.deconv_layers.4.\1"),
    (r"head\.conv\.(.+)", r"keypoint_head.final_layer.\1"),
)


def to_original_names(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Origin]:
    """The same tensors under the original names, and where they came from; names no pattern knows stay as they are."""
    if any(name.startswith("backbone.encoder.layer.") for name in state):
        return _join_qkv({_rename(name, TRANSFORMERS): tensor for name, tensor in state.items()}), "transformers"
    if any(name.startswith("backbone.layers.") for name in state):
        return {_rename(name, MMPOSE1X): tensor for name, tensor in state.items()}, "mmpose1x"
    return dict(state), "original"


def from_pretraining(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder of a MAE or HAP pre-training file as a trunk.

    As upstream, the encoder's own last norm (`norm`) is not used: the trunk's `last_norm` starts at 1 and 0. The
    decoder is left behind.
    """
    unused = ("decoder_", "norm.", "mask_token", "head.", "fc_norm.")
    trunk = {f"backbone.{name}": tensor for name, tensor in state.items() if not name.startswith(unused)}
    check_axes(state, {"blocks.0.mlp.fc1.weight": 2})
    width = state["blocks.0.mlp.fc1.weight"].shape[1]
    trunk["backbone.last_norm.weight"] = torch.ones(width)
    trunk["backbone.last_norm.bias"] = torch.zeros(width)
    return trunk


def _rename(name: str, patterns: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in patterns:
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(replacement)
    return name


def _join_qkv(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Join `blocks.N.{query,key,value}` into `blocks.N.attn.qkv`."""
    result: dict[str, Tensor] = {}
    for name, tensor in state.items():
        match = re.fullmatch(r"(backbone\.blocks\.\d+)\.(query|key|value)\.(weight|bias)", name)
        if match is None:
            result[name] = tensor
        elif match[2] == "query":
            thirds = [state.get(f"{match[1]}.{part}.{match[3]}") for part in ("query", "key", "value")]
            if all(third is not None for third in thirds):
                whole = f"{match[1]}.attn.qkv.{match[3]}"
                result[whole] = joined(thirds, whole)
    return result
