"""Sapiens against the original: key listings of every published size, and tiny networks with random weights."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lite.checkpoints import load_network, read_state_dict
from lite.errors import CheckpointError
from lite.models.sapiens import SIZES, SapiensPose, SapiensTrunk, TrunkSizes, sapiens, sapiens_from_state_dict

# Origin and tolerances: tests/golden/sapiens/networks/README.md
TOKENS, FEATURES, HEATMAPS, POSITIONS = 2e-5, 5e-5, 2e-4, 1e-6
LISTINGS = {"coco17": "pose_coco", "wholebody133": "pose_coco_wholebody", "goliath308": "pose_goliath"}


@pytest.fixture
def folder(golden: Path) -> Path:
    return golden / "sapiens" / "networks"


def close(found: torch.Tensor, expected: np.ndarray, tolerance: float) -> None:
    torch.testing.assert_close(found, torch.from_numpy(expected), atol=tolerance, rtol=0)


@pytest.mark.parametrize("skeleton", LISTINGS)
@pytest.mark.parametrize("size", SIZES)
def test_full_size_equals_its_listing(shared: Path, size: str, skeleton: str) -> None:
    listing = json.loads((shared / f"reference/sapiens/manifests/{LISTINGS[skeleton]}_{size}.json").read_text())
    with torch.device("meta"):
        network = sapiens(size, skeleton)
    found = [[name, list(value.shape), str(value.dtype)[6:]] for name, value in network.state_dict().items()]
    assert found == listing["state_dict"]


@pytest.mark.parametrize("skeleton", LISTINGS)
@pytest.mark.parametrize("size", SIZES)
def test_full_size_has_the_digest_of_its_listing(folder: Path, size: str, skeleton: str) -> None:
    expected = json.loads((folder / "listings.json").read_text())[f"{LISTINGS[skeleton]}_{size}"]
    with torch.device("meta"):
        network = sapiens(size, skeleton)
    found = [[name, list(value.shape), str(value.dtype)[6:]] for name, value in network.state_dict().items()]
    assert len(found) == expected["tensors"]
    assert sum(parameter.numel() for parameter in network.parameters()) == expected["parameters"]
    digest = hashlib.sha256(json.dumps(found, separators=(",", ":")).encode()).hexdigest()
    assert digest == expected["sha256"]


@pytest.mark.parametrize("size", SIZES)
def test_bare_trunk_listing_loads(shared: Path, size: str) -> None:
    """The published pre-training file of each size: its names and shapes fill the trunk at 1024 x 768."""
    listing = json.loads((shared / f"reference/sapiens/manifests/mae_clean_backbone_{size}.json").read_text())
    state = {name: torch.empty(shape, device="meta") for name, shape, _ in listing["state_dict"]}
    network = sapiens_from_state_dict(state, {}, input_hw=(1024, 768))
    assert network.spec.input_hw == (1024, 768) and network.backbone.pos_embed.shape[1] == 3072
    assert network.backbone.layers[0].attn.num_heads == SIZES[size].num_heads


@pytest.mark.parametrize("resized_at_load", [False, True])
@pytest.mark.parametrize(("tag", "input_hw"), [("a", (64, 48)), ("b", (96, 64))])
@torch.inference_mode()
def test_pose_tiny(folder: Path, tag: str, input_hw: tuple[int, int], resized_at_load: bool) -> None:
    network = load_network(folder / "pose_tiny.pth", input_hw=input_hw if resized_at_load else None)
    with np.load(folder / "pose_tiny.npz") as golden:
        x = torch.from_numpy(golden[f"input_{tag}"])
        close(network.backbone.patch_embed(x)[0], golden[f"tokens_{tag}"], TOKENS)
        close(network.backbone(x), golden[f"feat_{tag}"], FEATURES)
        close(network(x)["heatmaps"], golden[f"heatmap_{tag}"], HEATMAPS)
        close(network(x.flip(3))["heatmaps"], golden[f"heatmap_flipped_input_{tag}"], HEATMAPS)


def test_pose_tiny_is_described(folder: Path) -> None:
    spec = load_network(folder / "pose_tiny.pth", input_hw=(96, 64)).spec
    assert (spec.task, spec.model, spec.skeleton, spec.input_hw) == ("pose", "sapiens-custom", "coco17", (96, 64))
    assert spec.codec["heatmap_hw"] == [24, 16] and spec.codec["border"] == "zero" and spec.codec["sigma"] == 6.0
    assert spec.crop.affine == "udp" and spec.crop.padding == 1.25
    assert spec.outputs[0].shape == ("N", 17, 2)


@torch.inference_mode()
def test_training_checkpoint_with_foreign_objects(folder: Path) -> None:
    network = load_network(folder / "pose_training_state.pth")
    with np.load(folder / "pose_training_state.npz") as golden:
        close(network(torch.from_numpy(golden["input"]))["heatmaps"], golden["heatmap"], HEATMAPS)


@pytest.mark.parametrize("case", range(4))
@torch.inference_mode()
def test_bare_trunk_at_another_size(folder: Path, case: int) -> None:
    with np.load(folder / "mae_pos_embed.npz") as golden:
        height, width = (int(side) for side in golden[f"size_{case}"])
        network = load_network(folder / "mae_pretrain_tiny_clean.pth", input_hw=(height, width))
        close(network.backbone.pos_embed, golden[f"pos_embed_{case}"], POSITIONS)
        features = network(torch.from_numpy(golden[f"input_{case}"]))["features"]
        close(features, golden[f"feat_{case}"], FEATURES)


@pytest.mark.parametrize("keeps_class_token", [False, True])
@pytest.mark.parametrize("case", range(2))
def test_bare_trunk_without_class_row(folder: Path, case: int, keeps_class_token: bool) -> None:
    state, _ = read_state_dict(folder / "mae_pretrain_tiny_clean.pth")
    state["pos_embed"] = state["pos_embed"][:, 1:]
    if not keeps_class_token:
        del state["cls_token"]
    with np.load(folder / "mae_pos_embed.npz") as golden:
        height, width = (int(side) for side in golden[f"size_{case}"])
        network = sapiens_from_state_dict(state, {}, input_hw=(height, width))
        close(network.backbone.pos_embed, golden[f"pos_embed_{case}_nocls"], POSITIONS)


def test_whole_pretraining_file_gives_its_trunk(shared: Path) -> None:
    folder = shared / "reference/sapiens/golden"
    whole = load_network(folder / "mae_pretrain_tiny.pth")
    clean = load_network(folder / "mae_pretrain_tiny_clean.pth")
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), clean.state_dict().values(), strict=True))


@pytest.mark.parametrize("batch", [0, 1, 3])
@torch.inference_mode()
def test_any_batch_and_head_dimension_60(batch: int) -> None:
    sizes = TrunkSizes(width=120, depth=1, num_heads=2, hidden=16, grid_hw=(2, 3))
    network = SapiensPose(sizes, 5, deconv_channels=(8, 6), conv_channels=(4,)).eval()
    x = torch.randn(batch, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    heatmaps = network(x)["heatmaps"]
    assert heatmaps.shape == (batch, 5, 8, 12) and heatmaps.isfinite().all()
    for i in range(batch):  # pictures of a batch do not touch each other
        torch.testing.assert_close(network(x[i : i + 1])["heatmaps"][0], heatmaps[i], atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_patch_padding_zero_fills_the_corner() -> None:
    trunk = SapiensTrunk(TrunkSizes(width=8, depth=0, num_heads=1, hidden=8, grid_hw=(2, 2), patch_padding=0))
    x = torch.randn(1, 3, 30, 17)
    filled = torch.zeros(1, 3, 32, 32)
    filled[:, :, :30, :17] = x
    tokens, grid_hw = trunk.patch_embed(x)
    assert grid_hw == (2, 2)
    torch.testing.assert_close(tokens, trunk.patch_embed(filled)[0])


def test_sizes_and_skeleton_are_read_from_full_size_tensors() -> None:
    with torch.device("meta"):
        state = sapiens("1b", "goliath308").state_dict()
    network = sapiens_from_state_dict(state, {})
    assert (network.spec.model, network.spec.input_hw) == ("sapiens-1b-goliath308", (1024, 768))
    assert network.backbone.layers[0].attn.num_heads == 24 and len(network.backbone.layers) == 40


def test_missing_and_left_over_tensors_are_listed(folder: Path) -> None:
    state, meta = read_state_dict(folder / "pose_tiny.pth")
    del state["head.conv_layers.0.bias"]
    state["head.surplus.weight"] = torch.zeros(1)
    with pytest.raises(CheckpointError) as caught:
        sapiens_from_state_dict(state, meta)
    assert "1 missing: head.conv_layers.0.bias" in str(caught.value)
    assert "1 left over: head.surplus.weight" in str(caught.value)


@pytest.mark.parametrize("name", ["backbone.patch_embed.projection.weight", "head.final_layer.weight"])
def test_missing_tensors_that_give_the_sizes(folder: Path, name: str) -> None:
    state, meta = read_state_dict(folder / "pose_tiny.pth")
    del state[name]
    with pytest.raises(CheckpointError, match=name):
        sapiens_from_state_dict(state, meta)


def test_half_precision_weights_become_float32(folder: Path) -> None:
    state, meta = read_state_dict(folder / "pose_tiny.pth")
    network = sapiens_from_state_dict({name: value.half() for name, value in state.items()}, meta)
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}
