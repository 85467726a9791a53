"""ViTPose S, B, L, H and HAP: a plain vision transformer with a classic (deconvolution) or simple (bilinear) head.

Names, order and shapes of the tensors are those of the original files; other origins are renamed in vitpose_names.py,
and files for several data sets become the network of one in vitpose_datasets.py.
Source: ViTPose mmpose/models/backbones/vit.py, configs/body/2d_kpt_sview_rgb_img/topdown_heatmap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lite.artifact import ArtifactSpec, CropRule
from lite.errors import CheckpointError
from lite.models.heads import ClassicHead, SimpleHead
from lite.models.strict import check_axes, load_strictly
from lite.models.vit import (
    LAYER_NORM_EPS,
    MEAN,
    PATCH,
    STD,
    check_input_hw,
    count_blocks,
    hints,
    input_grid,
    pose_outputs,
    read_num_heads,
    resize_grid,
    split_positions,
)
from lite.models.vitpose_datasets import DATA_SETS, data_sets_in, one_data_set
from lite.models.vitpose_names import from_pretraining, to_original_names
from lite.models.vitpose_trunk import HEADS_BY_WIDTH, PATCH_PADDING, SIZES, TrunkSizes, ViTPoseTrunk

LICENCE = "Apache-2.0"


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
    size: str, dataset: str, *, name: str, simple: bool = False, input_hw: tuple[int, int] = (256, 192)
) -> ViTPose:
    """A published network with random weights: `size` from `SIZES`, `dataset` from `DATA_SETS`."""
    sizes = replace(SIZES[size], grid_hw=input_grid(input_hw, PATCH_PADDING))
    keypoints = DATA_SETS[dataset].num_keypoints
    network = ViTPose(sizes, keypoints, None if simple else (256, 256))
    network.spec = pose_spec(name, input_hw, keypoints, dataset)
    network.hints = trunk_hints(sizes)
    return network


def pose_spec(
    model: str, input_hw: tuple[int, int], num_keypoints: int, dataset: str | None, border: str = "reflect"
) -> ArtifactSpec:
    """What a ViTPose network takes and gives; sigma 2 and kernel 11 at every input size, as upstream.

    Args:
        dataset: name in `DATA_SETS`, which decides how crops are cut and heatmaps read; None is read as COCO is.
        border: how the decoder's blur treats the border: "reflect" in the original, "zero" in mmpose 1.x.
    """
    grid_hw = input_grid(input_hw, PATCH_PADDING)
    sizes = {"input_hw": list(input_hw), "heatmap_hw": [4 * side for side in grid_hw], "sigma": 2.0}
    classic = dataset is not None and DATA_SETS[dataset].classic
    square = dataset is not None and DATA_SETS[dataset].square and border == "reflect"  # mmpose 1.x keeps the aspect
    return ArtifactSpec(
        task="pose",
        model=model,
        input_hw=tuple(input_hw),
        mean=MEAN,
        std=STD,
        crop=CropRule(padding=1.25, affine="classic" if classic else "udp", square=square),
        outputs=pose_outputs(num_keypoints),
        codec={"name": "msra_heatmap", **sizes}
        if classic
        else {"name": "udp_heatmap", **sizes, "blur_kernel": 11, "border": border},
        skeleton=None if dataset is None else DATA_SETS[dataset].skeleton,
        licence=LICENCE,
    )


def trunk_hints(sizes: TrunkSizes) -> dict[str, Any]:
    """What the tensors do not show."""
    eps = {} if sizes.layer_norm_eps == LAYER_NORM_EPS else {"layer_norm_eps": sizes.layer_norm_eps}
    return {**hints(sizes), **eps}


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
    dataset: str | int | None = None,
) -> nn.Module:
    """The network these tensors belong to, strictly loaded, with `.spec`; a pre-training file gives a bare trunk.

    A file for several data sets gives the plain network of one of them: of `dataset`, else of the one `model` ends in,
    else of the first (COCO).

    Args:
        state: original, mmpose 1.x or transformers names.
        meta: what the file says about itself.
        model: zoo name, which decides data set and number of heads where tensors do not.
        input_hw: input size in px; the size of the stored position embeddings when None.
        dataset: name in `DATA_SETS`, or position of the expert.

    Raises:
        CheckpointError: tensors missing, left over or of another shape, or a data set the file does not hold.
    """
    check_input_hw(input_hw)
    state = from_pretraining(state) if "blocks.0.mlp.fc1.weight" in state else state
    original, origin = to_original_names(state)
    said = meta.get("hpe_lite_spec", meta).get("model")  # split files of both formats say what they are
    wanted = dataset_of(model or said) if dataset is None else dataset
    together = len(data_sets_in(original))
    state, found = one_data_set(original, wanted)
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
        if name in state and state[name].ndim == 4
    ]
    if isinstance(dataset, str) and found is None:
        raise CheckpointError(
            f"expected a head for the {DATA_SETS[dataset].num_keypoints} keypoints of {dataset}, found one for "
            f"{num_keypoints}; name the data set the file is for"
        )
    dataset = found or next((name for name, row in DATA_SETS.items() if row.num_keypoints == num_keypoints), None)
    with torch.device("meta"):
        network = ViTPose(sizes, num_keypoints, deconv or None)
    name = model or _name(sizes, input_hw, dataset, together, simple=not deconv)
    border = "zero" if origin == "mmpose1x" else "reflect"
    network.spec = pose_spec(name, input_hw, num_keypoints, dataset, border)
    network.hints = trunk_hints(sizes)
    head = "classic" if deconv else "simple"
    return load_strictly(
        network, state, f"ViTPose trunk of width {sizes.width}, depth {sizes.depth} and its {head} head"
    )


def dataset_of(model: object) -> str | None:
    """The data set a zoo name ends in; None for anything else."""
    last = model.rsplit("-", 1)[-1] if isinstance(model, str) else None
    return last if last in DATA_SETS else None


def _bare_trunk(
    state: Mapping[str, Tensor], sizes: TrunkSizes, model: str | None, input_hw: tuple[int, int]
) -> nn.Module:
    with torch.device("meta"):
        network = ViTPoseFeatures(sizes)
    network.spec = ArtifactSpec(
        task="features", model=model or "vitpose-trunk", input_hw=input_hw, mean=MEAN, std=STD, licence=LICENCE
    )
    network.hints = trunk_hints(sizes)
    return load_strictly(network, state, f"ViTPose trunk of width {sizes.width}, depth {sizes.depth}")


def _read_trunk(
    state: dict[str, Tensor], meta: Mapping[str, Any], input_hw: tuple[int, int] | None
) -> tuple[TrunkSizes, dict[str, Tensor]]:
    """Sizes from the tensors, and the tensors with positions (class row first) for the wanted grid."""
    axes = {"backbone.patch_embed.proj.weight": 4, "backbone.blocks.0.mlp.fc1.weight": 2}
    check_axes(state, axes | {"keypoint_head.final_layer.weight": 4})
    width = state["backbone.patch_embed.proj.weight"].shape[0]
    target_hw = input_grid(input_hw, PATCH_PADDING) if input_hw else None
    said = meta.get("hpe_lite_hints", {})
    stored = said.get("grid_hw")
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
        layer_norm_eps=said.get("layer_norm_eps", LAYER_NORM_EPS),
    )
    return sizes, state


def _name(sizes: TrunkSizes, input_hw: tuple[int, int], dataset: str | None, together: int, simple: bool) -> str:
    """Zoo name of a network whose tensors are of a published size; of 14 keypoints the first data set is taken."""
    size = next((name for name, row in SIZES.items() if (row.width, row.depth) == (sizes.width, sizes.depth)), None)
    if size is None or dataset is None:
        return "vitpose-custom"
    if together == 3 and size == "b":  # only HAP has three
        return f"hap-b{'-384x288' if input_hw == (384, 288) else ''}-multi-{dataset}"
    return f"vitpose-{'plus-' if together > 3 else ''}{size}-{'simple-' if simple else ''}{dataset}"
