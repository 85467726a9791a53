"""An exported file runs as the eager graph does, and every way it can be wrong is one sentence."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lite.artifact import read_spec, sha256_of, spec_path, write_spec
from lite.backends import open_backend
from lite.backends.pt2_backend import _check_program
from lite.errors import ArtifactError, ConfigError, ModelError, UnsafeFileError
from lite.graph import PixelGraph


@pytest.fixture
def crops() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (8, 32, 24, 3), dtype=np.uint8)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_equal_to_eager_at_every_batch(toy_pt2: Path, toy_graph: PixelGraph, crops: np.ndarray, count: int) -> None:
    backend = open_backend(toy_pt2)
    outputs = backend.run(crops[:count])
    expected = toy_graph(torch.from_numpy(crops[:count]))
    assert list(outputs) == ["keypoints", "scores"]
    for name, value in outputs.items():
        np.testing.assert_allclose(value, expected[name].numpy(), atol=1e-3)


def test_no_crops_give_empty_outputs(toy_pt2: Path) -> None:
    outputs = open_backend(toy_pt2).run(np.zeros((0, 32, 24, 3), np.uint8))
    assert outputs["keypoints"].shape == (0, 5, 2) and outputs["scores"].shape == (0, 5)
    assert outputs["keypoints"].dtype == np.float32


def test_what_it_says_of_itself(toy_pt2: Path) -> None:
    backend = open_backend(toy_pt2, device="cpu")
    assert backend.device == "cpu" and backend.spec.batch_range == (1, 8)
    assert "pt2 float32 on cpu" in backend.describe
    backend.close()


@pytest.mark.parametrize(
    ("shape", "dtype", "says"),
    [
        ((9, 32, 24, 3), np.uint8, "at most 8"),
        ((1, 24, 32, 3), np.uint8, "32, 24, 3"),
        ((1, 32, 24, 3), np.float32, "uint8"),
    ],
)
def test_pixels_that_do_not_fit(toy_pt2: Path, shape: tuple, dtype: type, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        open_backend(toy_pt2).run(np.zeros(shape, dtype))


def test_a_missing_json(toy_pt2: Path) -> None:
    spec_path(toy_pt2).unlink()
    with pytest.raises(ArtifactError, match=r"expected its description toy\.pt2\.json"):
        open_backend(toy_pt2)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        open_backend(tmp_path / "none.pt2")


@pytest.mark.parametrize("damage", [lambda d: d[:-100], lambda d: d[:200] + b"x" + d[201:], lambda d: b""])
def test_a_changed_file(toy_pt2: Path, damage: Callable[[bytes], bytes]) -> None:
    toy_pt2.write_bytes(damage(toy_pt2.read_bytes()))
    with pytest.raises(ArtifactError, match="sha256"):
        open_backend(toy_pt2)


def test_a_truncated_file_whose_json_was_made_to_fit(toy_pt2: Path) -> None:
    toy_pt2.write_bytes(toy_pt2.read_bytes()[:-100])
    write_spec(toy_pt2, replace(read_spec(toy_pt2), sha256=sha256_of(toy_pt2)))
    with pytest.raises(ArtifactError, match="damaged"):
        open_backend(toy_pt2)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("input_hw", [64, 48], "input"),
        ("batch_range", [1, 64], "batch range"),
        ("outputs", [], "outputs"),
        ("task", "detect", "outputs for its task"),
        ("mode", "bfloat16", "mode"),
        ("format", "onnx", "format"),
        ("versions", {"torch": "99.0.1"}, "torch 99"),
        ("versions", {"torch": "soon"}, "torch soon"),
        ("sha256", None, "sha256"),
        ("schema", "hpe-lite/artifact/9", "schema"),
    ],
)
def test_a_json_that_lies(toy_pt2: Path, field: str, value: object, says: str) -> None:
    values = json.loads(spec_path(toy_pt2).read_text())
    values[field] = value
    spec_path(toy_pt2).write_text(json.dumps(values))
    with pytest.raises(ArtifactError, match=says):
        open_backend(toy_pt2)


def test_swapped_output_names(toy_pt2: Path) -> None:
    spec = read_spec(toy_pt2)
    outputs = tuple(replace(o, name={"keypoints": "points"}.get(o.name, o.name)) for o in spec.outputs)
    write_spec(toy_pt2, replace(spec, outputs=outputs))
    with pytest.raises(ArtifactError, match="output names"):
        open_backend(toy_pt2)


class Odd(torch.nn.Module):
    """What no export writes: an output that is a number, or (exported without a largest batch) any batch."""

    def __init__(self, number: bool) -> None:
        super().__init__()
        self.number = number

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor | int]:
        sums = pixels.float().sum((1, 2))
        return {"keypoints": sums, "scores": 3 if self.number else sums}


@pytest.mark.parametrize("number", [True, False])
def test_programs_of_another_kind(toy_pt2: Path, number: bool) -> None:
    shapes = {"pixels": {0: torch.export.Dim("batch")}}
    pixels = torch.zeros(2, 32, 24, 3, dtype=torch.uint8)
    program = torch.export.export(Odd(number), (pixels,), dynamic_shapes=shapes, strict=False)
    with pytest.raises(ArtifactError, match="found another program; export the model again"):
        _check_program(program, read_spec(toy_pt2), toy_pt2)


def test_requests_the_file_cannot_meet(toy_pt2: Path) -> None:
    with pytest.raises(ConfigError, match="mode"):
        open_backend(toy_pt2, mode="bfloat16")
    with pytest.raises(ConfigError, match="flip_test"):
        open_backend(toy_pt2, flip_test=True)
    with pytest.raises(ConfigError, match="device"):
        open_backend(toy_pt2, device="toaster")
    with pytest.raises(ConfigError, match="mode"):
        open_backend(toy_pt2, mode="fast")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there(toy_pt2: Path) -> None:
    with pytest.raises(ConfigError, match="0 CUDA devices"):
        open_backend(toy_pt2, device="cuda:3")


def test_vetting_comes_first_and_trust_leaves_it_out(toy_pt2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: object, name: str) -> None:
        raise UnsafeFileError("vetted")

    monkeypatch.setattr("lite.backends.pt2_backend.vet_archive", refuse)
    monkeypatch.setattr("torch.export.load", lambda file: pytest.fail("loaded before vetting"))
    with pytest.raises(UnsafeFileError, match="vetted"):
        open_backend(toy_pt2)
    monkeypatch.undo()
    monkeypatch.setattr("lite.backends.pt2_backend.vet_archive", refuse)
    assert open_backend(toy_pt2, trust=True).spec.model == "toy"


def test_a_program_moves_to_another_device_whole(toy_pt2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Meta tensors stand for a GPU: an operator given tensors of both devices would fail."""
    monkeypatch.setattr("lite.backends.pt2_backend.choose_device", lambda device: torch.device("meta"))
    backend = open_backend(toy_pt2)
    found = backend.module(torch.zeros((3, 32, 24, 3), dtype=torch.uint8, device="meta"))
    assert {name: (value.device.type, *value.shape) for name, value in found.items()} == {
        "keypoints": ("meta", 3, 5, 2),
        "scores": ("meta", 3, 5),
    }
    tensors = {**dict(backend.module.named_parameters()), **dict(backend.module.named_buffers())}
    assert tensors and {tensor.device.type for tensor in tensors.values()} == {"meta"}
