"""Folders as transformers writes them: what is read of them, and one sentence for each that is not as it should be."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lite.checkpoints import load_network, save_network, weights_sha256
from lite.errors import CheckpointError, ModelError
from lite.models.find import resolve_model
from lite.models.hugging_face import config_hints, shards, weights_in
from lite.models.listing import file_facts
from lite.skeletons import load_skeleton

TOLERANCE = 3e-5  # origin: tests/golden/vitpose/hf/README.md
SKELETONS = {17: "coco17", 16: "mpii16", 14: "aic14"}


@pytest.fixture
def moe(golden: Path) -> Path:
    return golden / "vitpose" / "hf" / "moe_simple_64x48"


@pytest.fixture
def folder(moe: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    copy = tmp_path / "model"
    shutil.copytree(moe, copy)
    return copy


def change(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    for name, value in values.items():
        (config["backbone_config"] if name in config["backbone_config"] else config)[name] = value
    (folder / "config.json").write_text(json.dumps(config))


def test_experts_of_each_picture(moe: Path) -> None:
    with np.load(moe / "io.npz") as arrays, torch.inference_mode():
        for i, expert in enumerate(arrays["dataset_index"].tolist()):
            network = load_network(moe, dataset=expert)
            x = torch.from_numpy(arrays["input"][i : i + 1])
            found = network(x)["heatmaps"]
            torch.testing.assert_close(found, torch.from_numpy(arrays["heatmaps"][i : i + 1]), atol=TOLERANCE, rtol=0)
            tokens = network.backbone(x).flatten(2).transpose(1, 2)
            expected = torch.from_numpy(arrays["backbone_tokens"][i : i + 1])
            torch.testing.assert_close(tokens, expected, atol=TOLERANCE, rtol=0)
            mirrored = network(x.flip(3))["heatmaps"][:, load_skeleton("coco17").flip_indices].flip(3)
            expected = torch.from_numpy(arrays["flipped_heatmaps_back"][i : i + 1])
            torch.testing.assert_close(mirrored, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("case", ["classic_64x48", "simple_64x48"])
def test_plain_folders(shared: Path, case: str) -> None:
    """The classic one is stored as float16."""
    folder = shared / "reference/vitpose/golden/hf" / case
    network = load_network(folder)
    assert network.backbone.last_norm.eps == 1e-12 and network.backbone.blocks[1].norm1.eps == 1e-12
    skeleton = load_skeleton(network.spec.skeleton)
    with np.load(folder / "io.npz") as arrays, torch.inference_mode():
        x = torch.from_numpy(arrays["input"])
        assert network(x)["heatmaps"].dtype == torch.float32
        found = network(x)["heatmaps"]
        torch.testing.assert_close(found, torch.from_numpy(arrays["heatmaps"]), atol=TOLERANCE, rtol=0)
        tokens = network.backbone(x).flatten(2).transpose(1, 2)
        torch.testing.assert_close(tokens, torch.from_numpy(arrays["backbone_tokens"]), atol=TOLERANCE, rtol=0)
        mirrored = network(x.flip(3))["heatmaps"][:, skeleton.flip_indices].flip(3)
        expected = torch.from_numpy(arrays["flipped_heatmaps_back"])
        torch.testing.assert_close(mirrored, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(("case", "size", "simple"), [("classic", "b", False), ("simple", "b", True)])
def test_full_size_names(shared: Path, case: str, size: str, simple: bool) -> None:
    from lite.models.vitpose import vitpose, vitpose_from_state_dict

    listed = json.loads((shared / f"reference/vitpose/manifests/hf_vitpose_base_{case}.json").read_text())["keys"]
    state = {name: torch.empty(shape, dtype=getattr(torch, dtype), device="meta") for name, shape, dtype in listed}
    network = vitpose_from_state_dict(state, {})
    with torch.device("meta"):
        wanted = vitpose(size, "coco17", name="x", simple=simple).state_dict()
    assert {n: v.shape for n, v in network.state_dict().items()} == {n: v.shape for n, v in wanted.items()}


def test_the_file_in_it_is_enough(moe: Path) -> None:
    assert resolve_model(moe) == ("checkpoint", moe / "model.safetensors")
    by_folder, by_file = load_network(moe), load_network(moe / "model.safetensors")
    assert by_folder.spec == by_file.spec and by_folder.backbone.blocks[0].attn.num_heads == 4
    assert by_file.hints == {"num_heads": 4, "grid_hw": [4, 3], "layer_norm_eps": 1e-12}
    assert file_facts(moe)["family"] == "vitpose" and not file_facts(moe)["problems"]


def test_what_the_config_says_counts(folder: Path) -> None:
    change(folder, num_attention_heads=2, layer_norm_eps=1e-3)
    network = load_network(folder)
    assert network.backbone.blocks[0].attn.num_heads == 2
    assert {norm.eps for norm in network.modules() if isinstance(norm, torch.nn.LayerNorm)} == {1e-3}
    again = load_network(save_network(network, folder.parent / "saved" / "model.safetensors"))
    assert again.hints == network.hints and again.backbone.last_norm.eps == 1e-3
    resized = load_network(folder, input_hw=(384, 288))
    assert resized.spec.input_hw == (384, 288) and resized.backbone.last_norm.eps == 1e-3


def test_left_out_entries_have_the_defaults_of_transformers(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "vitpose", "backbone_config": {}}')
    assert config_hints(folder / "model.safetensors") == {
        "num_heads": 12,
        "grid_hw": [16, 12],
        "layer_norm_eps": 1e-12,
    }


def test_configs_of_others_say_nothing(folder: Path, golden: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "bert", "num_attention_heads": 7}')
    assert config_hints(folder / "model.safetensors") == {}
    assert load_network(folder).backbone.last_norm.eps == 1e-6
    (folder / "other.safetensors").touch()
    (folder / "config.json").write_text("no JSON")
    assert config_hints(folder / "other.safetensors") == {}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"scale_factor": 2}, "found scale_factor 2; this build"),
        ({"patch_size": [14, 14]}, "found patch_size 14; this build"),
        ({"hidden_act": "relu"}, "found hidden_act 'relu'"),
        ({"image_size": "large"}, r"expected image_size \[height, width\]"),
        ({"num_attention_heads": -4}, "expected counts in its hpe_lite_hints"),
        ({"num_attention_heads": 5}, "divides the width 32, found 5"),
        ({"layer_norm_eps": "1e-6"}, "expected counts in its hpe_lite_hints"),
    ],
)
def test_builds_that_are_not_ours(folder: Path, values: dict[str, Any], words: str) -> None:
    change(folder, **values)
    with pytest.raises(CheckpointError, match=words):
        load_network(folder)


@pytest.mark.parametrize("text", ["[]", "{", "", '{"a":' * 100000])
def test_a_damaged_config(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json: expected a JSON object, found none"):
        load_network(folder)


def test_weights_as_pickle(folder: Path) -> None:
    wanted = load_network(folder).state_dict()
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert weights_in(folder) == folder / "pytorch_model.bin"
    network = load_network(folder)
    assert network.backbone.last_norm.eps == 1e-12
    assert all(torch.equal(value, wanted[name]) for name, value in network.state_dict().items())


def test_half_precision_weights_become_float32(folder: Path) -> None:
    wanted = load_network(folder).state_dict()
    state = {name: value.half() for name, value in load_file(folder / "model.safetensors").items()}
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    for name, value in load_network(folder).state_dict().items():
        assert value.dtype == wanted[name].dtype
        torch.testing.assert_close(value, wanted[name], atol=1e-3, rtol=1e-3)


@pytest.fixture
def cut(folder: Path) -> Path:
    """The weights in two files and their index."""
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, own in parts.items():
        save_file({name: state[name] for name in own}, folder / file, {"format": "pt"})
    listed = {name: file for file, own in parts.items() for name in own}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": listed}))
    return folder


def test_weights_in_several_files(moe: Path, cut: Path) -> None:
    wanted, network = load_network(moe, dataset=3), load_network(cut, dataset=3)
    assert all(torch.equal(value, wanted.state_dict()[name]) for name, value in network.state_dict().items())
    assert network.hints == wanted.hints
    index = cut / "model.safetensors.index.json"
    assert network.spec.source_sha256 == weights_sha256(index)
    assert [path.name[:11] for path in shards(index)] == ["model-00001", "model-00002"]
    (cut / "model-00002-of-00002.safetensors").write_bytes(b"changed")
    assert weights_sha256(index) != network.spec.source_sha256
    (cut / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"expected its file model-00002-of-00002\.safetensors beside it"):
        load_network(cut)


@pytest.mark.parametrize(
    "listed",
    [{}, {"a": "../x.safetensors"}, {"a": "/etc/passwd"}, {"a": "model.safetensors.index.json"}, {"a": 5}, ["x"], None],
)
def test_an_index_that_lists_none_beside_it(cut: Path, listed: Any) -> None:
    (cut / "model.safetensors.index.json").write_text(json.dumps({"weight_map": listed}))
    with pytest.raises(CheckpointError, match="expected a list of weights files beside it"):
        load_network(cut)


def test_a_folder_that_is_none(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert weights_in(folder) is None
    with pytest.raises(ModelError, match=r"expected config\.json and one of model\.safetensors, .*found a folder"):
        load_network(folder)
