"""Weights files of every kind to networks and back, and one sentence for each kind of wrong file."""

import json
import os
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lite.artifact import sha256_of
from lite.checkpoints import FAMILIES, load_network, read_state_dict, save_network
from lite.errors import CheckpointError, ModelError, UnsafeFileError
from lite.models.sapiens import SapiensPose, TrunkSizes, hints, pose_spec
from lite.models.zoo import ZOO


@pytest.fixture
def pose_tiny(golden: Path) -> Path:
    return golden / "sapiens" / "networks" / "pose_tiny.pth"


def equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return list(left) == list(right) and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("layout", ["bare", "state_dict", "model", "module", "parallel", "legacy", "ema"])
def test_layouts_of_one_checkpoint(tmp_path: Path, pose_tiny: Path, layout: str) -> None:
    state, _ = read_state_dict(pose_tiny)
    ema = {f"module.{name}": value + 1 for name, value in state.items()}
    file: dict[str, Any] = {
        "bare": state,
        "state_dict": {"state_dict": state, "meta": {"epoch": 2}},
        "model": {"epoch": 2, "model": state, "optimizer": {"state": {}}, "scaler": None},
        "module": {"module": state},
        "parallel": {"state_dict": {f"module.{name}": value for name, value in state.items()}},
        "legacy": {"state_dict": state},
        "ema": {
            "state_dict": {**state, **{"ema_" + n.replace(".", "_"): v + 1 for n, v in state.items()}},
            "ema_state_dict": {"steps": torch.tensor(3), **ema},
        },
    }[layout]
    path = tmp_path / "x.pth"
    torch.save(file, path, _use_new_zipfile_serialization=layout != "legacy")
    found, meta = read_state_dict(path)
    assert list(found) == list(state) and all(torch.equal(found[name], state[name]) for name in state)
    assert meta.get("epoch") == (2 if layout in ("state_dict", "model") else None)
    assert equal(load_network(path), load_network(pose_tiny))


@pytest.mark.parametrize("case", ["bare", "ddp_prefix", "legacy", "mmdet2_meta", "training_ema", "zip"])
def test_checkpoint_layouts_of_mmdetection(golden: Path, case: str) -> None:
    folder = golden / "rtmdet" / "ckpt_variants"
    state, _ = read_state_dict(folder / f"{case}.pth")
    with np.load(folder / "expected_state.npz") as expected:
        assert set(state) == set(expected.files)
        assert all(np.array_equal(state[name].numpy(), expected[name]) for name in state)


def test_networks_are_in_eval_mode_and_float32(pose_tiny: Path) -> None:
    network = load_network(pose_tiny)
    assert not any(part.training for part in network.modules())
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize(
    "name", ["sapiens/networks/pose_tiny.pth", "vitpose/networks/classic_64x48/checkpoint.pth", "rtmdet/std.pth"]
)
def test_saved_network_is_read_back(tmp_path: Path, golden: Path, name: str) -> None:
    network = load_network(golden / name)
    path = save_network(network, tmp_path / "new" / "x.safetensors")
    again = load_network(path)
    assert again.spec == replace(network.spec, source_sha256=sha256_of(path)) and equal(again, network)
    assert os.listdir(path.parent) == ["x.safetensors"]
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_saved_network_keeps_what_tensors_do_not_show(tmp_path: Path) -> None:
    sizes = TrunkSizes(
        width=24, depth=1, num_heads=3, hidden=8, grid_hw=(5, 3)
    )  # neither by rule nor in a known aspect
    network = SapiensPose(sizes, 17, (4,), (4,)).eval()
    network.spec = pose_spec("sapiens-custom", (80, 48), 17, "coco17")
    network.hints = hints(sizes)
    again = load_network(save_network(network, tmp_path / "x.safetensors"))
    assert again.backbone.layers[0].attn.num_heads == 3
    x = torch.randn(1, 3, 80, 48)
    with torch.inference_mode():
        assert torch.equal(again(x)["heatmaps"], network(x)["heatmaps"])
    larger = load_network(tmp_path / "x.safetensors", input_hw=(128, 96))
    assert larger.backbone.pos_embed.shape[1] == 48 and larger.spec.codec["heatmap_hw"] == [32, 24]


def test_saving_leaves_no_half_file(tmp_path: Path, pose_tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(state: Any, path: Path, metadata: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("safetensors.torch.save_file", fails)
    with pytest.raises(OSError, match="disk full"):
        save_network(load_network(pose_tiny), tmp_path / "x.safetensors")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("input_hw", [(100, 64), (64, 0), (8, 8)])
@pytest.mark.parametrize("name", ["sapiens/networks/pose_tiny.pth", "vitpose/networks/classic_64x48/checkpoint.pth"])
def test_input_must_be_whole_patches(golden: Path, name: str, input_hw: tuple[int, int]) -> None:
    with pytest.raises(CheckpointError, match="multiples of 16"):
        load_network(golden / name, input_hw=input_hw)


def test_named_model_must_fit(pose_tiny: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_network(pose_tiny, model="sapiens-0.3b-coco17")
    assert "264 missing: backbone.layers.2.ln1.weight" in str(caught.value)
    assert "and 252 more" in str(caught.value)
    with pytest.raises(CheckpointError, match="expected the weights of vitpose-b-coco17, found a sapiens network"):
        load_network(pose_tiny, model="vitpose-b-coco17")
    with pytest.raises(ModelError, match=r"did you mean sapiens-0\.3b-coco17"):
        load_network(pose_tiny, model="sapeins-0.3b-coco17")


def test_hap_is_a_vitpose_network(tmp_path: Path) -> None:
    with torch.device("meta"):
        network = ZOO["hap-b-aic14"].build()
    # One number seen as a whole tensor: a file of full size in shape only.
    state = {
        name: torch.zeros((), dtype=value.dtype).expand(value.shape) for name, value in network.state_dict().items()
    }
    torch.save(state, tmp_path / "x.pth")
    loaded = load_network(tmp_path / "x.pth", model="hap-b-aic14")
    assert loaded.spec == replace(network.spec, source_sha256=sha256_of(tmp_path / "x.pth"))
    assert load_network(tmp_path / "x.pth").spec.model == "vitpose-b-aic14"
    with pytest.raises(CheckpointError, match=r"keypoint_head\.final_layer\.weight \(expected \(17"):
        load_network(tmp_path / "x.pth", model="hap-b-coco17")


def test_weights_found_by_zoo_name(tmp_path: Path, pose_tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPE_LITE_CHECKPOINTS", str(tmp_path))
    shutil.copy(pose_tiny, tmp_path / ZOO["sapiens-0.3b-coco17"].weights)
    for call in (lambda: load_network("sapiens-0.3b-coco17"), lambda: load_network(None, model="sapiens-0.3b-coco17")):
        with pytest.raises(
            CheckpointError, match="of another shape"
        ):  # found and read, then seen to be another network
            call()
    with pytest.raises(CheckpointError, match="found neither"):
        load_network(None)


def test_every_family_has_its_functions() -> None:
    from importlib import import_module

    for module_name, match, build in FAMILIES.values():
        module = import_module(module_name)
        assert callable(getattr(module, match)) and callable(getattr(module, build))
        assert not getattr(module, match)({"unknown.weight": torch.zeros(1)})


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _zip(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return path


def _damaged_zip(path: Path, offset: int, data: bytes) -> Path:
    """A checkpoint with a few bytes of the first entry in its table of contents replaced."""
    torch.save({"w": torch.zeros(1)}, path)
    content = bytearray(path.read_bytes())
    start = content.index(b"PK\x01\x02") + offset
    content[start : start + len(data)] = data
    if offset == 46:
        content[start - 46 + 9] |= 8  # the name is UTF-8
    return _write(path, bytes(content))


def _saved(path: Path, value: Any) -> Path:
    torch.save(value, path)
    return path


def _safetensors(path: Path, metadata: dict[str, str], cut: int | None = None) -> Path:
    save_file({"w": torch.zeros(3)}, path, metadata)
    path.write_bytes(path.read_bytes()[:cut])
    return path


WRONG = {
    "missing": (lambda p: p / "x.pth", ModelError, "no such file"),
    "folder": (lambda p: p, ModelError, "found a folder"),
    "empty": (lambda p: _write(p / "x.pth", b""), CheckpointError, "found an empty file"),
    "text": (lambda p: _write(p / "x.pth", b"hello there"), CheckpointError, "damaged or foreign"),
    "html": (lambda p: _write(p / "x.pth", b"<!DOCTYPE html><html>"), CheckpointError, "damaged or foreign"),
    "picture": (lambda p: _write(p / "x.pth", b"\xff\xd8\xff\xe0\x00\x10JFIF"), CheckpointError, "damaged or foreign"),
    "cut zip": (lambda p: _write(p / "x.pth", b"PK\x03\x04 and no more"), CheckpointError, "damaged or truncated"),
    "newer zip": (lambda p: _damaged_zip(p / "x.pth", 6, b"\xff"), CheckpointError, "damaged or truncated"),
    "zip with a strange name": (lambda p: _damaged_zip(p / "x.pth", 46, b"\xff"), CheckpointError, "damaged or trunc"),
    "key of no name": (lambda p: _saved(p / "x.pth", {7: torch.zeros(1)}), CheckpointError, "a key of type int"),
    "other zip": (lambda p: _zip(p / "x.pth", "a.txt"), CheckpointError, "0 members named data.pkl"),
    "TorchScript": (lambda p: _zip(p / "x.pt", "x/data.pkl", "x/constants.pkl"), UnsafeFileError, "TorchScript"),
    "exported": (lambda p: _zip(p / "x.bin", "x/archive_format", "x/models/model.json"), CheckpointError, "0 members"),
    "list": (lambda p: _saved(p / "x.pth", [torch.zeros(1)]), CheckpointError, "found list"),
    "no tensors": (lambda p: _saved(p / "x.pth", {"state_dict": {}}), CheckpointError, "found none"),
    "mixed": (lambda p: _saved(p / "x.pth", {"w": torch.zeros(1), "lr": 1.0}), CheckpointError, "1 other entries (lr)"),
    "unknown": (lambda p: _saved(p / "x.pth", {"w": torch.zeros(1)}), CheckpointError, "found 1 others (w"),
    "whole module": (lambda p: _saved(p / "x.pth", torch.nn.Linear(1, 1)), CheckpointError, "found <torch.nn"),
    "cut safetensors": (lambda p: _safetensors(p / "x.safetensors", {}, cut=-4), CheckpointError, "damaged one"),
    "bad spec": (
        lambda p: _safetensors(p / "x.safetensors", {"hpe_lite_spec": "{"}), CheckpointError, "damaged one",
    ),
    "other spec": (
        lambda p: _safetensors(p / "x.safetensors", {"hpe_lite_spec": json.dumps({"schema": "?"})}),
        ModelError,
        "schema",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_files_are_answered_in_one_sentence(tmp_path: Path, kind: str) -> None:
    make, error, words = WRONG[kind]
    path = make(tmp_path)
    with pytest.raises(error, match=re.escape(words)) as caught:
        load_network(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    if kind in ("missing", "folder"):
        with pytest.raises(CheckpointError, match=words.split()[-1]):
            read_state_dict(path)


def test_a_segmentation_network_needs_no_name(golden: Path) -> None:
    network = load_network(golden / "sapiens/segmentation/seg_tiny.pth")
    assert network.spec.task == "segment" and len(network.spec.labels) == 28


def test_only_the_wanted_tensors_are_read(tmp_path: Path, pose_tiny: Path) -> None:
    """The optimiser may lie beyond the end of the file: nobody looks."""
    state, _ = read_state_dict(pose_tiny)
    path = tmp_path / "x.pth"
    torch.save({"state_dict": state, "optimizer": {"state": {0: torch.randn(1000)}}}, path)
    read, _ = read_state_dict(path)
    assert set(read) == set(state)


def test_sha256(tmp_path: Path) -> None:
    path = _write(tmp_path / "x", b"abc")
    assert sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
