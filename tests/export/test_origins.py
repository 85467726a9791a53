"""Sapiens-Lite's published `.pt2` files go through the command line as a `.pth` does."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lite.artifact import read_spec, sha256_of
from lite.backends import open_backend
from lite.checkpoints import load_network, read_state_dict
from lite.cli import main
from tests.program_files import old_program, saved, write, zipped


class Whole(nn.Module):
    """Heatmaps out, as the original."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = network.backbone, network.head

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(inputs))


@pytest.fixture
def torchscript(tiny: Path, tmp_path: Path) -> Path:
    path = tmp_path / "tiny_torchscript.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(Whole(load_network(tiny)), torch.zeros(1, 3, 64, 48), check_trace=False)
        torch.jit.save(traced, path)
    return path


@pytest.fixture
def program(tiny: Path, tmp_path: Path) -> Path:
    state = {name: tensor.bfloat16() for name, tensor in read_state_dict(tiny)[0].items()}
    return write(tmp_path, old_program(saved(state))).rename(tmp_path / "tiny_bfloat16.pt2")


def test_torchscript_is_exported_with_trust_only(
    torchscript: Path, tiny: Path, crops: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "x.pt2"
    words = ["export", "--checkpoint", str(torchscript), "--output", str(output), "--batch-max", "8"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "TorchScript archive" in said and "--trust" in said and ".pth" in said and not output.exists()
    assert main([*words, "--trust"]) == 0
    assert read_spec(output).source_sha256 == sha256_of(torchscript)
    expected = open_backend(tiny, mode="float32").run(crops[:3])
    found = open_backend(output).run(crops[:3])
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-3)


def test_a_bfloat16_program_is_exported(program: Path, tmp_path: Path) -> None:
    output = tmp_path / "x.pt2"
    words = ["export", "--checkpoint", str(program), "--output", str(output), "--batch-max", "4", "--mode", "bfloat16"]
    assert main(words) == 0
    assert read_spec(output).mode == "bfloat16" and read_spec(output).check["passed"]


@pytest.mark.parametrize("kind", ["torchscript", "program"])
def test_infer_and_inspect(
    kind: str, request: pytest.FixtureRequest, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = request.getfixturevalue(kind)
    picture = root / "lite" / "pictures" / "astronaut.jpg"
    words = ["--model", str(path), "--input", str(picture), "--output", str(tmp_path / "out"), "--device", "cpu"]
    if kind == "torchscript":
        assert main(["infer", *words]) == 2 and "--trust" in capsys.readouterr().err
    assert main(["infer", *words, "--detector", "none", "--trust"]) == 0
    people = json.loads((tmp_path / "out" / "astronaut.json").read_text())["instance_info"]
    assert len(people) == 1 and len(people[0]["keypoints"]) == 17
    assert main(["inspect", str(path), "--trust"]) == 0
    assert "kind: checkpoint" in capsys.readouterr().out


def test_a_program_too_old_or_too_strange(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for data in (zipped({"serialized_exported_program.json": b"{}"}), old_program(b"gAJ9cQAu")):
        assert main(["export", "--checkpoint", str(write(tmp_path, data))]) == 2
        assert "give the .pth it was made from" in capsys.readouterr().err
