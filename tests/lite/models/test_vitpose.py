"""ViTPose and HAP against the original: key listings of the published sizes, and tiny networks with random weights."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lite.checkpoints import load_network, read_state_dict
from lite.errors import CheckpointError
from lite.models.vitpose import TrunkSizes, ViTPose, vitpose, vitpose_from_state_dict

TOLERANCE = 2e-5  # origin: tests/golden/vitpose/networks/README.md
LISTINGS = [
    *(("vitpose", size, "classic", "coco", 256, 192) for size in "sblh"),
    ("vitpose", "b", "simple", "coco", 256, 192),
    *(("hap", "b", None, data, *hw) for data in ("coco", "mpii", "aic") for hw in ((256, 192), (384, 288))),
]
SKELETONS = {"coco": "coco17", "mpii": "mpii16", "aic": "aic14"}


def reproduces(network: torch.nn.Module, io_file: Path) -> None:
    with np.load(io_file) as golden, torch.inference_mode():
        x = torch.from_numpy(golden["input"])
        expected = {
            "feature": network.backbone(x),
            "heatmap": network(x)["heatmaps"],
            "heatmap_of_flipped_input": network(x.flip(3))["heatmaps"],
        }
        for name, found in expected.items():
            if name in golden:
                torch.testing.assert_close(found, torch.from_numpy(golden[name]), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(("family", "size", "head", "data", "height", "width"), LISTINGS)
def test_full_size_equals_its_listing(
    shared: Path, family: str, size: str, head: str | None, data: str, height: int, width: int
) -> None:
    name = "_".join(part for part in (family, size, head, data, f"{height}x{width}") if part)
    listing = json.loads((shared / f"reference/vitpose/manifests/{name}.json").read_text())
    with torch.device("meta"):
        network = vitpose(size, SKELETONS[data], name="x", simple=head == "simple", input_hw=(height, width))
    found = [[name, list(value.shape), str(value.dtype)[6:]] for name, value in network.state_dict().items()]
    assert found == listing["keys"]


@pytest.mark.parametrize(("family", "size", "head", "data", "height", "width"), LISTINGS)
def test_full_size_has_the_digest_of_its_listing(
    golden: Path, family: str, size: str, head: str | None, data: str, height: int, width: int
) -> None:
    listings = json.loads((golden / "vitpose/networks/listings.json").read_text())
    expected = listings["_".join(part for part in (family, size, head, data, f"{height}x{width}") if part)]
    with torch.device("meta"):
        network = vitpose(size, SKELETONS[data], name="x", simple=head == "simple", input_hw=(height, width))
    found = [[name, list(value.shape), str(value.dtype)[6:]] for name, value in network.state_dict().items()]
    assert len(found) == expected["tensors"]
    assert sum(parameter.numel() for parameter in network.parameters()) == expected["parameters"]
    digest = hashlib.sha256(json.dumps(found, separators=(",", ":")).encode()).hexdigest()
    assert digest == expected["sha256"]


@pytest.mark.parametrize("case", ["classic_64x48", "simple_96x64", "mmpose1x_simple_64x48"])
def test_tiny_network(golden: Path, case: str) -> None:
    folder = golden / "vitpose" / "networks" / case
    network = load_network(folder / "checkpoint.pth")
    settings = json.loads((folder / "config.json").read_text())
    assert network.spec.input_hw == tuple(settings["img_size_hw"])
    assert network.spec.outputs[0].shape[1] == settings["num_keypoints"]
    assert network.spec.codec["border"] == ("zero" if case.startswith("mmpose1x") else "reflect")
    reproduces(network, folder / "io.npz")


@pytest.mark.parametrize(
    "case",
    [
        "models/vitpose_tiny_classic_96x64",
        "models/vitpose_tiny_simple_64x48",
        "mmpose1x/classic_64x48",
    ],
)
def test_tiny_network_of_the_reference(shared: Path, case: str) -> None:
    folder = shared / "reference/vitpose/golden" / case
    reproduces(load_network(folder / "checkpoint.pth"), folder / "io.npz")


def test_transformers_names(shared: Path) -> None:
    folder = shared / "reference/vitpose/golden/hf"
    for case, num_heads in (("simple_64x48", None), ("classic_64x48", 4)):
        state = {name: value.float() for name, value in load_file(folder / case / "model.safetensors").items()}
        network = vitpose_from_state_dict(state, {"num_heads": num_heads} if num_heads else {})
        with np.load(folder / case / "io.npz") as golden, torch.inference_mode():
            found = network(torch.from_numpy(golden["input"]))["heatmaps"]
            torch.testing.assert_close(found, torch.from_numpy(golden["heatmaps"]), atol=3e-5, rtol=0)


@pytest.mark.parametrize("case", ["hap_coco_aic_mpii", "vitpose_plus_6"])
def test_multi_task_file_gives_its_first_network(shared: Path, case: str) -> None:
    folder = shared / "reference/vitpose/golden/multi" / case
    network = load_network(folder / "checkpoint.pth")
    with np.load(folder / "io.npz") as golden, torch.inference_mode():
        found = network(torch.from_numpy(golden["input"][:1]))["heatmaps"]  # sample 0 went to data set 0
        expected = torch.from_numpy(golden["heatmap_moe_0"])[:1]
        torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("kind", ["hap", "mae"])
@pytest.mark.parametrize("input_hw", [(64, 48), (256, 192), (384, 288)])
def test_pretraining_file_gives_a_trunk(shared: Path, kind: str, input_hw: tuple[int, int]) -> None:
    folder = shared / "reference/vitpose/golden/pretrain"
    network = load_network(folder / f"{kind}_pretrain.pth", input_hw=input_hw)
    with np.load(folder / f"{kind}_{input_hw[0]}x{input_hw[1]}_loaded.npz") as golden, torch.inference_mode():
        expected = torch.from_numpy(golden["pos_embed"])
        torch.testing.assert_close(network.backbone.pos_embed.data, expected, atol=1e-5, rtol=0)
        assert torch.equal(network.backbone.blocks[0].attn.qkv.weight, torch.from_numpy(golden["blocks0_qkv_weight"]))
        if "input" in golden:
            found = network(torch.from_numpy(golden["input"]))["features"]
            torch.testing.assert_close(found, torch.from_numpy(golden["feature"]), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("case", [f"{kind}_{hw}" for kind in ("hap", "mae") for hw in ("64x48", "256x192", "384x288")])
def test_every_tensor_of_a_pretraining_file(shared: Path, case: str) -> None:
    """Bytes as the original loads them; positions, which are resized, are compared above."""
    folder = shared / "reference/vitpose/golden/pretrain"
    wanted = json.loads((folder / "loaded_state.json").read_text())[case]
    file = folder / f"{case.split('_')[0]}_pretrain.pth"
    found = load_network(file, input_hw=tuple(wanted["img_size_hw"])).backbone.state_dict()
    assert set(found) == {entry["key"] for entry in wanted["keys"]}
    for entry in wanted["keys"]:
        value = found[entry["key"]]
        assert list(value.shape) == entry["shape"]
        if not entry["from_checkpoint"]:
            assert torch.equal(value, torch.full_like(value, float(entry["key"] == "last_norm.weight")))
        elif entry["key"] != "pos_embed":
            assert hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest() == entry["sha256"], entry["key"]


def test_another_input_size_at_load_equals_at_run_time(golden: Path) -> None:
    file = golden / "vitpose/networks/classic_64x48/checkpoint.pth"
    at_load, at_run = load_network(file, input_hw=(96, 64)), load_network(file)
    x = torch.randn(1, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(at_load(x)["heatmaps"], at_run(x)["heatmaps"])
    assert at_load.spec.codec["heatmap_hw"] == [24, 16]
    assert torch.equal(at_load.backbone.pos_embed[:, 0], at_run.backbone.pos_embed[:, 0])


@pytest.mark.parametrize("deconv", [(8, 6), None])
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_any_batch(batch: int, deconv: tuple[int, int] | None) -> None:
    sizes = TrunkSizes(width=16, depth=1, num_heads=2, hidden=16, grid_hw=(2, 3))
    network = ViTPose(sizes, 5, deconv).eval()
    with torch.inference_mode():
        assert network(torch.randn(batch, 3, 32, 48))["heatmaps"].shape == (batch, 5, 8, 12)


def test_head_skeleton_and_crop_rule_are_read_from_tensors() -> None:
    for size, skeleton, simple, name, codec, affine in (
        ("s", "coco17", True, "vitpose-s-simple-coco17", "udp_heatmap", "udp"),
        ("l", "mpii16", False, "vitpose-l-mpii16", "udp_heatmap", "udp"),
        ("b", "aic14", False, "vitpose-b-aic14", "msra_heatmap", "classic"),
    ):
        with torch.device("meta"):
            state = vitpose(size, skeleton, name="x", simple=simple).state_dict()
        spec = vitpose_from_state_dict(state, {}).spec
        assert (spec.model, spec.codec["name"], spec.crop.affine) == (name, codec, affine)


def test_left_over_tensors_are_listed(golden: Path) -> None:
    state, meta = read_state_dict(golden / "vitpose/networks/simple_96x64/checkpoint.pth")
    state["backbone.blocks.0.attn.bias"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"1 left over: backbone\.blocks\.0\.attn\.bias"):
        vitpose_from_state_dict(state, meta)
