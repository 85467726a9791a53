"""Sapiens: a plain vision transformer of 0.3 to 2 billion parameters with a heatmap head for 17, 133 or 308 keypoints.

The networks with a segmentation head are in sapiens_seg.py; their files are recognised and their trunk is read here.

Names, order and shapes of the tensors are those of the published files.
Source: sapiens pretrain/mmpretrain/models/backbones/vision_transformer.py, pose/configs/sapiens_pose.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lite.artifact import ArtifactSpec, CropRule
from lite.errors import CheckpointError
from lite.models.heads import SapiensHeatmapHead
from lite.models.strict import check_axes, load_strictly
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

LICENCE = "CC-BY-NC-4.0"


@dataclass(frozen=True, kw_only=True)
class TrunkSizes:
    """The numbers that make a trunk; `grid_hw` is the token grid its position embeddings are for."""

    width: int
    depth: int
    num_heads: int
    hidden: int
    grid_hw: tuple[int, int] = (64, 48)
    patch_padding: int = 2


SIZES = {
    "0.3b": TrunkSizes(width=1024, depth=24, num_heads=16, hidden=4096),
    "0.6b": TrunkSizes(width=1280, depth=32, num_heads=16, hidden=5120),
    "1b": TrunkSizes(width=1536, depth=40, num_heads=24, hidden=6144),
    "2b": TrunkSizes(width=1920, depth=48, num_heads=32, hidden=7680),
}
HEADS_BY_WIDTH = {sizes.width: sizes.num_heads for sizes in SIZES.values()}
NUM_KEYPOINTS = {"coco17": 17, "wholebody133": 133, "goliath308": 308}


class FeedForward(nn.Module):
    """Two linear layers with an exact GELU between; nested as the published names ask."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Sequential(nn.Linear(width, hidden), nn.GELU()), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.attn = Attention(width, num_heads)
        self.ln2 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.ffn = FeedForward(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln1(x))
        return x + self.ffn(self.ln2(x))  # (B, N, C)


class PatchEmbed(nn.Module):
    """16 x 16 patches to tokens. Padding 0 fills the right and bottom up to whole patches ("corner")."""

    def __init__(self, width: int, padding: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, width, kernel_size=PATCH, stride=PATCH, padding=padding)
        self.padding = padding

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        if self.padding == 0:
            x = F.pad(x, (0, -x.shape[3] % PATCH, 0, -x.shape[2] % PATCH))
        x = self.projection(x)  # (B, C, h, w)
        return x.flatten(2).transpose(1, 2), (x.shape[2], x.shape[3])


class SapiensTrunk(nn.Module):
    """Tokens, learned positions, blocks, final norm; at another input size the positions are resized."""

    def __init__(self, sizes: TrunkSizes) -> None:
        super().__init__()
        self.grid_hw = tuple(sizes.grid_hw)
        self.pos_embed = empty_positions(self.grid_hw[0] * self.grid_hw[1], sizes.width)
        self.patch_embed = PatchEmbed(sizes.width, sizes.patch_padding)
        self.layers = nn.ModuleList(Block(sizes.width, sizes.num_heads, sizes.hidden) for _ in range(sizes.depth))
        self.ln1 = nn.LayerNorm(sizes.width, eps=LAYER_NORM_EPS)
        init_linear(self)

    def forward(self, x: Tensor) -> Tensor:
        x, grid_hw = self.patch_embed(x)  # (B, h*w, C)
        x = x + resize_grid(self.pos_embed, self.grid_hw, grid_hw)
        for layer in self.layers:
            x = layer(x)
        return tokens_to_map(self.ln1(x), grid_hw)  # (B, C, h, w)


class SapiensPose(nn.Module):
    """Normalised pictures (B, 3, h, w) to `heatmaps` (B, K, h/4, w/4)."""

    def __init__(
        self,
        sizes: TrunkSizes,
        num_keypoints: int,
        deconv_channels: Sequence[int] = (768, 768),
        conv_channels: Sequence[int] = (768, 768),
    ) -> None:
        super().__init__()
        self.backbone = SapiensTrunk(sizes)
        self.head = SapiensHeatmapHead(sizes.width, num_keypoints, deconv_channels, conv_channels)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"heatmaps": self.head(self.backbone(x))}


class SapiensFeatures(nn.Module):
    """A trunk without head: normalised pictures (B, 3, h, w) to `features` (B, C, h/16, w/16)."""

    def __init__(self, sizes: TrunkSizes) -> None:
        super().__init__()
        self.backbone = SapiensTrunk(sizes)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"features": self.backbone(x)}


def sapiens(size: str, skeleton: str, input_hw: tuple[int, int] = (1024, 768)) -> SapiensPose:
    """A published network with random weights: `size` from `SIZES`, `skeleton` from `NUM_KEYPOINTS`."""
    sizes = replace(SIZES[size], grid_hw=input_grid(input_hw, SIZES[size].patch_padding))
    network = SapiensPose(sizes, NUM_KEYPOINTS[skeleton])
    network.spec = pose_spec(f"sapiens-{size}-{skeleton}", input_hw, NUM_KEYPOINTS[skeleton], skeleton)
    network.hints = hints(sizes)
    return network


def pose_spec(model: str, input_hw: tuple[int, int], num_keypoints: int, skeleton: str | None) -> ArtifactSpec:
    """What a Sapiens pose network takes and gives. The blur kernel stays 11 though sigma is 6, as upstream."""
    grid_hw = input_grid(input_hw, patch_padding=2)
    return ArtifactSpec(
        task="pose",
        model=model,
        input_hw=tuple(input_hw),
        mean=MEAN,
        std=STD,
        crop=CropRule(padding=1.25, affine="udp"),
        outputs=pose_outputs(num_keypoints),
        codec={
            "name": "udp_heatmap",
            "input_hw": list(input_hw),
            "heatmap_hw": [4 * side for side in grid_hw],
            "sigma": 6.0,
            "blur_kernel": 11,
            "border": "zero",
        },
        skeleton=skeleton,
        licence=LICENCE,
    )


def match_sapiens(state: Mapping[str, Any]) -> bool:
    """Whether these are the tensors of a Sapiens pose or segmentation network or of its bare trunk.

    Networks of mmpose 1.x share the trunk's names; their heads have BatchNorm or no deconvolution.
    """
    if "layers.0.ffn.layers.1.weight" in state:
        return True
    if "backbone.layers.0.ffn.layers.1.weight" not in state:
        return False
    head = [name for name in state if name.startswith("head.")]
    return not head or ("head.deconv_layers.0.weight" in state and "head.deconv_layers.1.weight" not in state)


def sapiens_from_state_dict(
    state: Mapping[str, Tensor],
    meta: Mapping[str, Any],
    model: str | None = None,
    input_hw: tuple[int, int] | None = None,
) -> nn.Module:
    """The network these tensors belong to, strictly loaded, with `.spec`.

    Args:
        state: published names; a bare trunk may lack the prefix `backbone.` and may hold `cls_token`.
        meta: what the file says about itself.
        model: zoo name, which decides heads and skeleton where tensors do not.
        input_hw: input size in px; the size of the stored position embeddings when None.

    Raises:
        CheckpointError: tensors missing, left over or of another shape.
    """
    check_input_hw(input_hw)
    state = _trunk_prefixed(state)
    row_size, _, row_skeleton = (model or "").removeprefix("sapiens-").partition("-")
    sizes, state = _read_trunk(state, meta, SIZES.get(row_size), input_hw)
    input_hw = tuple(input_hw or (PATCH * sizes.grid_hw[0], PATCH * sizes.grid_hw[1]))
    if any(name.startswith("decode_head.") for name in state):
        from lite.models.sapiens_seg import segmenter_from_tensors  # which is built on this module

        network: nn.Module = segmenter_from_tensors(state, meta, sizes, model, input_hw)
    elif not any(name.startswith("head.") for name in state):
        with torch.device("meta"):
            network = SapiensFeatures(sizes)
        network.spec = ArtifactSpec(
            task="features", model=model or "sapiens-trunk", input_hw=input_hw, mean=MEAN, std=STD, licence=LICENCE
        )
    else:
        network = _pose_from_tensors(state, sizes, model, row_skeleton, input_hw)
    network.hints = {**hints(sizes), **getattr(network, "hints", {})}
    return load_strictly(network, state, f"Sapiens trunk of width {sizes.width}, depth {sizes.depth} and its head")


def _trunk_prefixed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All names under `backbone.` and `head.`; the decoder of a pre-training file (`neck.`) is left behind."""
    if "backbone.pos_embed" not in state and "pos_embed" in state:
        state = {f"backbone.{name}": tensor for name, tensor in state.items()}
    pretraining = "neck.mask_token" in state
    return {name: tensor for name, tensor in state.items() if not (pretraining and name.startswith("neck."))}


def _read_trunk(
    state: dict[str, Tensor], meta: Mapping[str, Any], row: TrunkSizes | None, input_hw: tuple[int, int] | None
) -> tuple[TrunkSizes, dict[str, Tensor]]:
    """Sizes from the tensors, and the tensors with positions for the wanted grid and without class token."""
    for name in (
        "backbone.pos_embed",
        "backbone.patch_embed.projection.weight",
        "backbone.layers.0.ffn.layers.1.weight",
    ):
        if name not in state:
            raise CheckpointError(f"expected a Sapiens network, found no tensor {name}; the file is not complete")
    axes = {"backbone.patch_embed.projection.weight": 4, "backbone.layers.0.ffn.layers.1.weight": 2}
    check_axes(state, axes | {"head.final_layer.weight": 4})
    width = state["backbone.patch_embed.projection.weight"].shape[0]
    target_hw = input_grid(input_hw, patch_padding=2) if input_hw else None
    stored = meta.get("hpe_lite_hints", {}).get("grid_hw")
    positions = state["backbone.pos_embed"]
    _, grid, grid_hw = split_positions(
        positions, "backbone.cls_token" in state, target_hw, tuple(stored) if stored else None
    )
    state = {name: tensor for name, tensor in state.items() if name != "backbone.cls_token"}
    state["backbone.pos_embed"] = resize_grid(grid, grid_hw, target_hw or grid_hw)
    sizes = TrunkSizes(
        width=width,
        depth=count_blocks(state, "backbone.layers."),
        num_heads=read_num_heads(width, HEADS_BY_WIDTH, meta, row.num_heads if row and row.width == width else None),
        hidden=state["backbone.layers.0.ffn.layers.1.weight"].shape[1],
        grid_hw=target_hw or grid_hw,
    )
    return sizes, state


def _pose_from_tensors(
    state: Mapping[str, Tensor],
    sizes: TrunkSizes,
    model: str | None,
    row_skeleton: str,
    input_hw: tuple[int, int],
) -> SapiensPose:
    if "head.final_layer.weight" not in state:
        raise CheckpointError(
            "expected a Sapiens pose head, found no tensor head.final_layer.weight; the file is not complete"
        )
    num_keypoints = state["head.final_layer.weight"].shape[0]
    deconv, conv = head_channels(state, "head.")
    with torch.device("meta"):
        network = SapiensPose(sizes, num_keypoints, deconv, conv)
    skeleton = row_skeleton or next((name for name, count in NUM_KEYPOINTS.items() if count == num_keypoints), None)
    size = next((name for name, row in SIZES.items() if (row.width, row.depth) == (sizes.width, sizes.depth)), None)
    name = model or (f"sapiens-{size}-{skeleton}" if size and skeleton else "sapiens-custom")
    network.spec = pose_spec(name, input_hw, num_keypoints, skeleton)
    return network


def head_channels(state: Mapping[str, Tensor], prefix: str) -> tuple[list[int], list[int]]:
    """Output channels of the deconvolutions and of the convolutions of a head, from its tensors.

    They stand at 0, 3, 6, ...: each is followed by a norm and an activation, which have no tensors.
    """
    names = {kind: [f"{prefix}{kind}.{i}.weight" for i in range(0, 30, 3)] for kind in ("deconv_layers", "conv_layers")}
    shapes = {kind: [state[name].shape for name in names[kind] if name in state] for kind in names}
    deconv = [shape[1] for shape in shapes["deconv_layers"] if len(shape) == 4]  # loading names those of other shapes
    return deconv, [shape[0] for shape in shapes["conv_layers"] if len(shape) == 4]
