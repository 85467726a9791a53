"""A file for several data sets into one for each: the tensors of the original's split, without what it forgets."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from lite.checkpoints import load_network, read_state_dict
from lite.cli import main
from lite.errors import CheckpointError, ConfigError, ModelError
from lite.models.split import split, split_command
from lite.models.split_config import SplitConfig
from lite.models.vitpose_datasets import EXPERT_ORDER

ORIGINAL = {"coco17": "coco", "aic14": "aic", "mpii16": "mpii", "ap10k17": "ap10k", "apt36k17": "apt36k"}


@pytest.fixture
def plus(golden: Path) -> Path:
    return golden / "vitpose" / "multi" / "vitpose_plus_6"


def equals_the_original(files: list[Path], folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text())["files"]
    for path in files:
        name = path.stem.rsplit("-", 1)[1]
        wanted = expected[f"{ORIGINAL.get(name, 'wholebody')}.pth"]
        unused = set(wanted["unused_by_plain_model"])
        state, _ = read_state_dict(path)
        tensors = {entry["key"]: entry for entry in wanted["keys"] if entry["key"] not in unused}
        assert set(state) == set(tensors)
        for key, value in state.items():
            assert list(value.shape) == tensors[key]["shape"], key
            digest = hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
            assert digest == tensors[key]["sha256"], key


@pytest.mark.parametrize("format", ["safetensors", "pth"])
def test_vitpose_plus(plus: Path, tmp_path: Path, format: str) -> None:
    files = split(plus / "checkpoint.pth", tmp_path / "new", format=format)
    assert [file.name for file in files] == [f"checkpoint-{name}.{format}" for name in EXPERT_ORDER]
    assert sorted(files) == sorted((tmp_path / "new").iterdir())
    equals_the_original(files, plus)
    for file, name in zip(files, EXPERT_ORDER):
        spec = load_network(file).spec
        wanted = load_network(plus / "checkpoint.pth", dataset=name).spec
        assert (spec.skeleton, spec.codec, spec.crop) == (wanted.skeleton, wanted.codec, wanted.crop)
        assert load_network(file, input_hw=(384, 288)).spec.skeleton == wanted.skeleton


def test_the_original_reads_pth(plus: Path, tmp_path: Path) -> None:
    (file,) = split(plus / "checkpoint.pth", tmp_path, ["mpii16"], format="pth")
    stored = torch.load(file, weights_only=True)
    assert set(stored) == {"meta", "state_dict"}
    assert not any("experts" in name or name.startswith("associate") for name in stored["state_dict"])


def test_hap(shared: Path, tmp_path: Path) -> None:
    folder = shared / "reference/vitpose/golden/multi/hap_coco_aic_mpii"
    files = split(folder / "checkpoint.pth", tmp_path)
    assert len(files) == 3
    equals_the_original(files, folder)


def test_the_command_names_what_it_wrote(plus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = SplitConfig(checkpoint=str(plus / "checkpoint.pth"), output=str(tmp_path), datasets=["mpii16", "coco17"])
    assert split_command(config) == 0
    files = [tmp_path / f"checkpoint-{name}.safetensors" for name in ("coco17", "mpii16")]
    assert capsys.readouterr().out.splitlines() == [str(file) for file in files]
    assert sorted(tmp_path.iterdir()) == files


def test_nothing_to_split(plus: Path, golden: Path, tmp_path: Path) -> None:
    for single in ("vitpose/networks/classic_64x48/checkpoint.pth", "sapiens/networks/pose_tiny.pth"):
        with pytest.raises(CheckpointError, match="for each of several data sets, found 1 of 1"):
            split(golden / single, tmp_path)
    with pytest.raises(CheckpointError, match="found 1 of 6"):  # six experts and the head of one
        split(golden / "vitpose" / "hf" / "moe_simple_64x48", tmp_path)
    with pytest.raises(CheckpointError, match="expected crowdpose14 in it, found coco17, aic14"):
        split(plus / "checkpoint.pth", tmp_path, ["coco17", "crowdpose14"])
    (tmp_path / "x.onnx").touch()
    with pytest.raises(ModelError, match="expected a checkpoint, found an exported file"):
        split(tmp_path / "x.onnx", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["x.onnx"]


def test_settings(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for changes, words in (
        ({"checkpoint": ""}, "checkpoint: expected a file"),
        ({"output": ""}, "output: expected a folder"),
        ({"output": str(tmp_path / "file")}, "output: expected a folder, found a file"),
    ):
        with pytest.raises(ConfigError, match=words):
            SplitConfig(**{"checkpoint": "x.pth", "output": str(tmp_path), **changes})


@pytest.mark.parametrize(("words", "names"), [(["mpii16"], ["mpii16"]), (["mpii16", "aic14"], ["aic14", "mpii16"])])
def test_as_it_is_typed(plus: Path, tmp_path: Path, words: list[str], names: list[str]) -> None:
    assert main(["split", str(plus / "checkpoint.pth"), "--output", str(tmp_path), "--datasets", *words]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"checkpoint-{name}.safetensors" for name in names]


@pytest.mark.parametrize("format", ["safetensors", "pth"])
def test_a_folder_that_cannot_be_made(
    plus: Path, tmp_path: Path, format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    words = ["--output", str(tmp_path / "file" / "inner"), "--format", format]
    assert main(["split", str(plus / "checkpoint.pth"), *words]) == 2
    assert "cannot be written" in capsys.readouterr().err
