"""ViTPose S, B, L, H and HAP: a plain vision transformer with a classic (deconvolution) or simple (bilinear) head.

Names, order and shapes of the tensors are those of the original files; other origins are renamed in vitpose_names.py.
Source: ViTPose mmpose/models/backbones/vit.py, configs/body/2d_kpt_sview_rgb_img/topdown_heatmap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lite.artifact import ArtifactSpec, CropRule
from lite.errors import CheckpointError
from lite.models.heads import ClassicHead, SimpleHead
from lite.models.strict import load_strictly
from lite.models.vit import (
    LAYER_NORM_EPS,
    MEAN,
    PATCH,
    STD,
    Attention,
    check_input_hw,
    count_blocks,
    empty_positions,
    hints,
    init_linear,
    input_grid,
    pose_outputs,
    read_num_heads,
    resize_grid,
    split_positions,
    tokens_to_map,
)
from lite.models.vitpose_names import from_pretraining, merge_experts, to_original_names

LICENCE = "Apache-2.0"
PATCH_PADDING = 2


@dataclass(frozen=True, kw_only=True)
class TrunkSizes:
    """The numbers that make a trunk; `grid_hw` is the token grid its position embeddings are for."""

    width: int
    depth: int
    num_heads: int
    hidden: int
    grid_hw: tuple[int, int] = (16, 12)


SIZES = {
    "s": TrunkSizes(width=384, depth=12, num_heads=12, hidden=1536),
    "b": TrunkSizes(width=768, depth=12, num_heads=12, hidden=3072),
    "l": TrunkSizes(width=1024, depth=24, num_heads=16, hidden=4096),
    "h": TrunkSizes(width=1280, depth=32, num_heads=16, hidden=5120),
}
HEADS_BY_WIDTH = {sizes.width: sizes.num_heads for sizes in SIZES.values()}
NUM_KEYPOINTS = {"coco17": 17, "mpii16": 16, "aic14": 14, "crowdpose14": 14, "wholebody133": 133}
CLASSIC_DECODING = ("aic14", "crowdpose14")  # trained with the classic affine and integer-centred targets


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.attn = Attention(width, num_heads)
        self.norm2 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.mlp = Mlp(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))  # (B, N, C)


class PatchEmbed(nn.Module):
    """16 x 16 patches, padded by 2, to tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=PATCH, stride=PATCH, padding=PATCH_PADDING)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        x = self.proj(x)  # (B, C, h, w)
        return x.flatten(2).transpose(1, 2), (x.shape[2], x.shape[3])


class ViTPoseTrunk(nn.Module):
    """Tokens, learned positions, blocks, final norm.

    There is no class token, but its position row exists and is added to every token. Another input size than the
    configured one, which the original cannot take, resizes the positions.
    """

    def __init__(self, sizes: TrunkSizes) -> None:
        super().__init__()
        self.grid_hw = tuple(sizes.grid_hw)
        self.pos_embed = empty_positions(1 + self.grid_hw[0] * self.grid_hw[1], sizes.width)
        self.patch_embed = PatchEmbed(sizes.width)
        self.blocks = nn.ModuleList(Block(sizes.width, sizes.num_heads, sizes.hidden) for _ in range(sizes.depth))
        self.last_norm = nn.LayerNorm(sizes.width, eps=LAYER_NORM_EPS)
        init_linear(self)

    def forward(self, x: Tensor) -> Tensor:
        x, grid_hw = self.patch_embed(x)  # (B, h*w, C)
        x = x + resize_grid(self.pos_embed[:, 1:], self.grid_hw, grid_hw) + self.pos_embed[:, :1]
        for block in self.blocks:
            x = block(x)
        return tokens_to_map(self.last_norm(x), grid_hw)  # (B, C, h, w)


class ViTPose(nn.Module):
    """Normalised pictures (B, 3, h, w) to `heatmaps` (B, K, h/4, w/4); `deconv_channels` None makes the simple head."""

    def __init__(
        self, sizes: TrunkSizes, num_keypoints: int, deconv_channels: Sequence[int] | None = (256, 256)
    ) -> None:
        super().__init__()
        self.backbone = ViTPoseTrunk(sizes)
        self.keypoint_head = (
            SimpleHead(sizes.width, num_keypoints)
            if deconv_channels is None
            else ClassicHead(sizes.width, num_keypoints, deconv_channels)
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"heatmaps": self.keypoint_head(self.backbone(x))}


class ViTPoseFeatures(nn.Module):
    """A trunk without head: normalised pictures (B, 3, h, w) to `features` (B, C, h/16, w/16)."""

    def __init__(self, sizes: TrunkSizes) -> None:
        super().__init__()
        self.backbone = ViTPoseTrunk(sizes)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"features": self.backbone(x)}


def vitpose(
    size: str, skeleton: str, *, name: str, simple: bool = False, input_hw: tuple[int, int] = (256, 192)
) -> ViTPose:
    """A published network with random weights: `size` from `SIZES`, `skeleton` from `NUM_KEYPOINTS`."""
    sizes = replace(SIZES[size], grid_hw=input_grid(input_hw, PATCH_PADDING))
    network = ViTPose(sizes, NUM_KEYPOINTS[skeleton], None if simple else (256, 256))
    network.spec = pose_spec(name, input_hw, NUM_KEYPOINTS[skeleton], skeleton)
    network.hints = hints(sizes)
    return network


def pose_spec(
    model: str, input_hw: tuple[int, int], num_keypoints: int, skeleton: str | None, border: str = "reflect"
) -> ArtifactSpec:
    """What a ViTPose network takes and gives; sigma 2 and kernel 11 at every input size, as upstream.

    Args:
        border: how the decoder's blur treats the border: "reflect" in the original, "zero" in mmpose 1.x.
    """
    grid_hw = input_grid(input_hw, PATCH_PADDING)
    sizes = {"input_hw": list(input_hw), "heatmap_hw": [4 * side for side in grid_hw], "sigma": 2.0}
    classic = skeleton in CLASSIC_DECODING
    return ArtifactSpec(
        task="pose",
        model=model,
        input_hw=tuple(input_hw),
        mean=MEAN,
        std=STD,
        crop=CropRule(padding=1.25, affine="classic" if classic else "udp"),
        outputs=pose_outputs(num_keypoints),
        codec={"name": "msra_heatmap", **sizes}
        if classic
        else {"name": "udp_heatmap", **sizes, "blur_kernel": 11, "border": border},
        skeleton=skeleton,
        licence=LICENCE,
    )


def match_vitpose(state: Mapping[str, Any]) -> bool:
    """Whether these are the tensors of a ViTPose or HAP network, under original, mmpose 1.x or transformers names."""
    return (
        "backbone.blocks.0.mlp.fc1.weight" in state
        or "blocks.0.mlp.fc1.weight" in state
        or "backbone.encoder.layer.0.mlp.fc1.weight" in state
        or ("backbone.layers.0.ffn.layers.1.weight" in state and "head.final_layer.weight" in state)
    )


def vitpose_from_state_dict(
    state: Mapping[str, Tensor],
    meta: Mapping[str, Any],
    model: str | None = None,
    input_hw: tuple[int, int] | None = None,
) -> nn.Module:
    """The network these tensors belong to, strictly loaded, with `.spec`; a pre-training file gives a bare trunk.

    Heads of other data sets and experts, which multi-task files carry beside a complete network, are left behind.

    Args:
        state: original, mmpose 1.x or transformers names.
        meta: what the file says about itself.
        model: zoo name, which decides skeleton and number of heads where tensors do not.
        input_hw: input size in px; the size of the stored position embeddings when None.

    Raises:
        CheckpointError: tensors missing, left over or of another shape.
    """
    check_input_hw(input_hw)
    state = from_pretraining(state) if "blocks.0.mlp.fc1.weight" in state else state
    original, origin = to_original_names(state)
    state = merge_experts(original)
    for name in ("backbone.pos_embed", "backbone.patch_embed.proj.weight", "backbone.blocks.0.mlp.fc1.weight"):
        if name not in state:
            raise CheckpointError(f"expected a ViTPose network, found no tensor {name}; the file is not complete")
    sizes, state = _read_trunk(state, meta, input_hw)
    input_hw = tuple(input_hw or (PATCH * sizes.grid_hw[0], PATCH * sizes.grid_hw[1]))
    if not any(name.startswith("keypoint_head.") for name in state):
        return _bare_trunk(state, sizes, model, input_hw)
    if "keypoint_head.final_layer.weight" not in state:
        raise CheckpointError(
            "expected a ViTPose head, found no tensor keypoint_head.final_layer.weight; the file is not complete"
        )
    num_keypoints = state["keypoint_head.final_layer.weight"].shape[0]
    deconv = [
        state[name].shape[1]
        for name in (f"keypoint_head.deconv_layers.{i}.weight" for i in range(0, 30, 3))
        if name in state
    ]
    with torch.device("meta"):
        network = ViTPose(sizes, num_keypoints, deconv or None)
    name, skeleton = _name(model, sizes, num_keypoints, simple=not deconv)
    border = "zero" if origin == "mmpose1x" else "reflect"
    network.spec = pose_spec(name, input_hw, num_keypoints, skeleton, border)
    network.hints = hints(sizes)
    head = "classic" if deconv else "simple"
    return load_strictly(
        network, state, f"ViTPose trunk of width {sizes.width}, depth {sizes.depth} and its {head} head"
    )


def _bare_trunk(
    state: Mapping[str, Tensor], sizes: TrunkSizes, model: str | None, input_hw: tuple[int, int]
) -> nn.Module:
    with torch.device("meta"):
        network = ViTPoseFeatures(sizes)
    network.spec = ArtifactSpec(
        task="features", model=model or "vitpose-trunk", input_hw=input_hw, mean=MEAN, std=STD, licence=LICENCE
    )
    network.hints = hints(sizes)
    return load_strictly(network, state, f"ViTPose trunk of width {sizes.width}, depth {sizes.depth}")


def _read_trunk(
    state: dict[str, Tensor], meta: Mapping[str, Any], input_hw: tuple[int, int] | None
) -> tuple[TrunkSizes, dict[str, Tensor]]:
    """Sizes from the tensors, and the tensors with positions (class row first) for the wanted grid."""
    width = state["backbone.patch_embed.proj.weight"].shape[0]
    target_hw = input_grid(input_hw, PATCH_PADDING) if input_hw else None
    stored = meta.get("hpe_lite_hints", {}).get("grid_hw")
    class_row, grid, grid_hw = split_positions(
        state["backbone.pos_embed"], True, target_hw, tuple(stored) if stored else None
    )
    if class_row is None:
        class_row = torch.zeros_like(grid[:, :1])
    state = {name: tensor for name, tensor in state.items() if name != "backbone.cls_token"}
    resized = resize_grid(grid, grid_hw, target_hw or grid_hw)
    state["backbone.pos_embed"] = torch.cat([class_row, resized], dim=1)
    sizes = TrunkSizes(
        width=width,
        depth=count_blocks(state, "backbone.blocks."),
        num_heads=read_num_heads(width, HEADS_BY_WIDTH, meta),
        hidden=state["backbone.blocks.0.mlp.fc1.weight"].shape[0],
        grid_hw=target_hw or grid_hw,
    )
    return sizes, state


def _name(model: str | None, sizes: TrunkSizes, num_keypoints: int, simple: bool) -> tuple[str, str | None]:
    """Model name and skeleton; 14 keypoints are taken as AI Challenger's unless the model says CrowdPose."""
    if model is not None:
        return model, model.rsplit("-", 1)[1]
    skeleton = next((name for name, count in NUM_KEYPOINTS.items() if count == num_keypoints), None)
    size = next((name for name, row in SIZES.items() if (row.width, row.depth) == (sizes.width, sizes.depth)), None)
    if size is None or skeleton is None:
        return "vitpose-custom", skeleton
    return f"vitpose-{size}-{'simple-' if simple else ''}{skeleton}", skeleton
