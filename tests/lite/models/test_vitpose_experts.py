"""ViTPose+ and HAP as they are trained: names of the published files, outputs, losses and starts of the original."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lite.checkpoints import load_network, read_state_dict
from lite.errors import CheckpointError
from lite.models.vitpose_experts import ViTPoseExperts, give_experts, vitpose_experts
from lite.models.vitpose_trunk import TrunkSizes


def tiny(expected: dict) -> ViTPoseExperts:
    sizes = TrunkSizes(
        width=expected["embed_dim"],
        depth=expected["depth"],
        num_heads=expected["num_heads"],
        hidden=4 * expected["embed_dim"],
        grid_hw=(4, 3),
    )
    return ViTPoseExperts(
        sizes, expected["part_features"], expected["head_out_channels"], expected["deconv_filters"]
    ).eval()


def loaded(folder: Path) -> ViTPoseExperts:
    network = tiny(json.loads((folder / "expected.json").read_text()))
    network.load_state_dict(read_state_dict(folder / "checkpoint.pth")[0])
    return network


def listing(network: torch.nn.Module) -> list:
    return [[name, list(value.shape), str(value.dtype)[6:]] for name, value in network.state_dict().items()]


@pytest.mark.parametrize(
    ("name", "size", "experts", "input_hw"),
    [
        ("vitpose_plus_b_6datasets_256x192_before_split", "b", 6, (256, 192)),
        ("hap_b_multi_256x192_before_split", "b", 3, (256, 192)),
        ("hap_b_multi_384x288_before_split", "b", 3, (384, 288)),
    ],
)
def test_full_size_equals_its_listing(
    shared: Path, name: str, size: str, experts: int, input_hw: tuple[int, int]
) -> None:
    wanted = json.loads((shared / f"reference/vitpose/manifests/{name}.json").read_text())
    with torch.device("meta"):
        network = vitpose_experts(size, experts, input_hw)
    assert listing(network) == wanted["keys"]
    assert sum(parameter.numel() for parameter in network.parameters()) == wanted["num_params"]


def test_each_picture_goes_to_its_expert(golden: Path) -> None:
    folder = golden / "vitpose" / "multi" / "vitpose_plus_6"
    network = loaded(folder)
    assert listing(network) == json.loads((folder / "expected.json").read_text())["source_keys"]
    with np.load(folder / "io.npz") as arrays, torch.inference_mode():
        x, dataset = torch.from_numpy(arrays["input"]), torch.arange(6)
        feature = torch.from_numpy(arrays["feature_moe"])
        torch.testing.assert_close(network.backbone(x, dataset), feature, atol=2e-5, rtol=0)
        for i, heatmaps in enumerate(network(x, dataset)):
            expected = torch.from_numpy(arrays[f"heatmap_moe_{i}"])
            torch.testing.assert_close(heatmaps[i : i + 1], expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_any_batch(golden: Path, count: int) -> None:
    network = tiny(json.loads((golden / "vitpose/multi/vitpose_plus_6/expected.json").read_text()))
    maps = network(torch.randn(count, 3, 64, 48), torch.full((count,), 5))
    assert [tuple(one.shape) for one in maps] == [(count, k, 16, 12) for k in (17, 14, 16, 17, 17, 133)]


def test_losses_of_a_mixed_batch(shared: Path) -> None:
    """Every head sees every picture; those of other data sets weigh nothing but stay in the mean."""
    folder = shared / "reference/vitpose/golden/multi/hap_coco_aic_mpii"
    network = loaded(folder)
    expected = json.loads((folder / "expected.json").read_text())["train_losses_eval_mode"]
    with np.load(folder / "io.npz") as arrays, torch.inference_mode():
        x, target, weight, dataset = (
            torch.from_numpy(arrays[f"train_{name}"]) for name in ("input", "target", "target_weight", "dataset_idx")
        )
        for i, (name, maps) in enumerate(zip(("main_stream_loss", "1_loss", "2_loss"), network(x, dataset))):
            own = (dataset == i).float().reshape(-1, 1, 1, 1)
            errors = (maps - target * own) * weight[..., None] * own
            assert float(errors.square().mean()) == pytest.approx(expected[name], abs=1e-6)


@pytest.mark.parametrize("kind", ["hap", "mae"])
def test_start_from_a_pretraining_file(shared: Path, kind: str) -> None:
    folder = shared / "reference/vitpose/golden/pretrain"
    case = json.loads((folder / "loaded_state.json").read_text())[f"{kind}_moe_256x192"]
    trunk = load_network(folder / f"{kind}_pretrain.pth", input_hw=tuple(case["img_size_hw"])).backbone.state_dict()
    found = give_experts(trunk, case["num_expert"], case["part_features"])
    assert set(found) == {entry["key"] for entry in case["keys"]}
    for entry in case["keys"]:
        value = found[entry["key"]]
        assert list(value.shape) == entry["shape"], entry["key"]
        if entry["key"] != "pos_embed":  # bicubic, compared with a tolerance elsewhere
            assert hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest() == entry["sha256"], entry["key"]


@pytest.mark.parametrize("part", [0, 32, 40])
def test_a_part_that_is_none(part: int) -> None:
    with pytest.raises(CheckpointError, match=f"expected a part of the 32 channels for each expert, found {part}"):
        give_experts({"blocks.0.mlp.fc2.weight": torch.zeros(32, 4)}, 3, part)
