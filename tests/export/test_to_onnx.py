"""Every family and every codec becomes an ONNX file that gives the eager numbers at other batch sizes."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from export.config import ExportConfig
from export.crops import check_crops
from export.to_onnx import BATCH, OPSET, onnx_model, to_onnx, write_onnx
from lite.artifact import ArtifactSpec, CropRule, sha256_of, write_spec
from lite.backends.artifact_file import SPEC_KEY, embedded_spec
from lite.backends.eager_backend import build_graph
from lite.backends.fold import fold_batch_norm
from lite.backends.onnx_file import vet_onnx
from lite.backends.onnxruntime_backend import open as open_onnx
from lite.checkpoints import load_network
from lite.codecs import build_codec
from lite.graph import PixelGraph, describe
from lite.models.rtmdet import rtmdet

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


def write(graph: PixelGraph, path: Path, mode: str = "float32", crops: np.ndarray | None = None) -> ArtifactSpec:
    """The file and the JSON the pipeline would put beside it."""
    config = ExportConfig(model="any", format="onnx", mode=mode, batch_max=8)
    written = to_onnx(graph, path, config, lambda: crops)
    spec = replace(graph.spec, format="onnx", batch_range=(1, 8), versions=written.versions, sha256=sha256_of(path))
    write_spec(path, spec)
    return spec


def checkpoint(name: str) -> Callable[[Path], nn.Module]:
    return lambda golden: load_network(golden / name)


# Network and whether the flip test is baked in.
NETWORKS: dict[str, tuple[Callable[[Path], nn.Module], bool]] = {
    "rtmdet_nano": (lambda golden: rtmdet("nano", "person", canvas=64), False),
    "rtmdet_tiny": (lambda golden: rtmdet("tiny", "coco80", canvas=64), False),
    "vitpose_classic": (checkpoint("vitpose/networks/classic_64x48/checkpoint.pth"), True),
    "vitpose_simple": (checkpoint("vitpose/networks/simple_96x64/checkpoint.pth"), False),
    "sapiens": (checkpoint("sapiens/networks/pose_tiny.pth"), True),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_family(name: str, golden: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, flip_test = NETWORKS[name]
    network = make(golden).eval()
    fold_batch_norm(network)
    graph = build_graph(network, flip_test=flip_test)
    write(graph, tmp_path / "x.onnx")
    readers = {node.op_type for node in onnx.load(tmp_path / "x.onnx").graph.node if "pixels" in node.input}
    assert readers <= {"Cast", "Shape"}, "TensorRT reads 8-bit pixels by a cast alone"
    backend = open_onnx(tmp_path / "x.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (8, *graph.spec.input_hw, 3), dtype=np.uint8)
    for count in (1, 3, 8):
        found, expected = backend.run(pixels[:count]), graph(torch.from_numpy(pixels[:count]))
        np.testing.assert_allclose(found["scores"], expected["scores"], atol=2e-3, rtol=1e-3)
        assert {key: (value.shape, str(value.dtype)) for key, value in found.items()} == {
            key: (tuple(value.shape), str(value.dtype).removeprefix("torch.")) for key, value in expected.items()
        }
        place = "boxes" if "boxes" in found else "keypoints"
        # Random weights make flat maps here and there, whose peaks any rounding moves.
        assert np.median(np.abs(found[place] - expected[place].numpy())) < 1e-2


class Maps(nn.Module):
    """Heatmaps that are given, a little brighter where the crop is."""

    def __init__(self, maps: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("maps", maps)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        light = x.mean(dim=(1, 2, 3)) + 2.0  # (B,), above 0
        return {"heatmaps": self.maps * light[:, None, None, None]}


CODECS: dict[str, dict[str, Any]] = {
    "udp zero": {"name": "udp_heatmap", "border": "zero"},
    "udp reflect": {"name": "udp_heatmap", "border": "reflect", "max_step": 1.0},
    "msra default": {"name": "msra_heatmap", "refine": "default"},
    "msra unbiased": {"name": "msra_heatmap", "refine": "unbiased"},
    "msra none": {"name": "msra_heatmap", "refine": "none"},
}


@pytest.mark.parametrize("name", CODECS)
def test_every_codec(name: str, tmp_path: Path) -> None:
    """Peaks inside, at corners and edges; an empty map, a negative one, noise, a lone spike, one above the ceiling."""
    codec = {**CODECS[name], "input_hw": [64, 48], "heatmap_hw": [16, 12]}
    made = build_codec(codec)
    points = torch.tensor([[20.3, 30.1], [0, 0], [47, 63], [47, 0], [3, 40.6], [24, 62], [10, 10]])
    maps, _ = made.encode(points, torch.ones(len(points)))
    random = torch.Generator().manual_seed(0)
    spike = torch.zeros(16, 12)
    spike[5, 7] = 1.0
    odd = torch.stack([torch.zeros(16, 12), -torch.ones(16, 12), torch.rand(16, 12, generator=random), spike])
    maps = torch.cat([maps, odd, maps[:1] * 80])
    spec = ArtifactSpec(
        task="pose",
        model="maps",
        input_hw=(64, 48),
        mean=(120.0, 110.0, 100.0),
        std=(500.0, 600.0, 700.0),
        crop=CropRule(),
        codec=codec,
    )
    graph = PixelGraph(Maps(maps), made, spec).eval()
    graph.spec = replace(spec, outputs=describe(graph).outputs)
    write(graph, tmp_path / "x.onnx")
    backend = open_onnx(tmp_path / "x.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 48, 3), dtype=np.uint8)
    for count in (1, 3):
        expected = graph(torch.from_numpy(pixels[:count]))
        for key, value in backend.run(pixels[:count]).items():
            np.testing.assert_allclose(value, expected[key].numpy(), atol=1e-3, rtol=1e-5)


@pytest.fixture(scope="module")
def tiny_files(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny Sapiens network in each mode."""
    folder = tmp_path_factory.mktemp("modes")
    for mode in ("float32", "float16", "bfloat16"):
        graph = build_graph(load_network(golden / "sapiens/networks/pose_tiny.pth"), mode=mode)
        write(graph, folder / f"{mode}.onnx", mode)
    return {mode: folder / f"{mode}.onnx" for mode in ("float32", "float16", "bfloat16")}


@pytest.mark.parametrize("mode", ["float32", "float16", "bfloat16"])
def test_each_mode_is_valid_and_says_what_it_is(tiny_files: dict[str, Path], mode: str) -> None:
    path = tiny_files[mode]
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path)
    assert model.producer_name == "hpe-lite" and not model.functions
    assert [(one.domain, one.version) for one in model.opset_import] == [("", OPSET)]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == BATCH
    spec = json.loads({entry.key: entry.value for entry in model.metadata_props}[SPEC_KEY])
    assert (spec["mode"], spec["format"], spec["batch_range"]) == (mode, "onnx", [1, 8])
    weights = {t.data_type for t in model.graph.initializer if t.name.startswith("network")}
    assert getattr(onnx.TensorProto, {"float32": "FLOAT"}.get(mode, mode.upper())) in weights
    if mode != "float32":
        assert onnx.TensorProto.FLOAT not in weights
        assert path.stat().st_size < 0.6 * tiny_files["float32"].stat().st_size


@pytest.mark.parametrize("mode", ["float16", "bfloat16"])
def test_indices_are_whole_numbers_and_coordinates_float32(tiny_files: dict[str, Path], mode: str) -> None:
    """Arithmetic outside the network, in what is neither float32 nor a whole number, would round coordinates."""
    model = onnx.shape_inference.infer_shapes(onnx.load(tiny_files[mode]))
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    kinds |= {one.name: one.type.tensor_type.elem_type for one in (*model.graph.input, *model.graph.output)}
    kinds |= {one.name: one.data_type for one in model.graph.initializer}
    outside = [node for node in model.graph.node if not node.name.startswith("network")]
    gathers = [node for node in model.graph.node if node.op_type.startswith("Gather")]
    assert len(outside) > 50 and gathers
    assert all(kinds[node.input[1]] == onnx.TensorProto.INT64 for node in gathers)
    exact = {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}
    arithmetic = [node for node in outside if node.op_type in ("Add", "Sub", "Mul", "Div", "Mod", "Log", "MatMul")]
    assert {kinds[name] for node in arithmetic for name in node.input} <= exact


def test_nothing_of_this_machine_is_in_the_file(tiny_files: dict[str, Path], root: Path) -> None:
    data = tiny_files["float32"].read_bytes()
    for text in (str(root), "site-packages", ".py", "stack_trace", "fx_node"):
        assert text.encode() not in data


def test_weights_are_not_copied_and_lie_beside_a_file_that_is_too_large(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = build_graph(load_network(golden / "sapiens/networks/pose_tiny.pth"))
    model = onnx_model(graph, 8)
    spec = replace(graph.spec, format="onnx", batch_range=(1, 8))
    model.metadata_props[SPEC_KEY] = json.dumps(embedded_spec(spec))
    with torch.no_grad():  # seen in the file only if it still shares the graph's weights
        for parameter in graph.parameters():
            parameter.mul_(0.9)
    monkeypatch.setattr("export.to_onnx.LARGEST_FILE", 1000)
    path, beside = tmp_path / "x.onnx", tmp_path / "x.onnx.data"
    write_onnx(model, path)
    assert beside.stat().st_size > path.stat().st_size
    spec = replace(spec, sha256=sha256_of(path), companions={beside.name: sha256_of(beside)})
    write_spec(path, spec)
    assert vet_onnx(path, spec) == str(path)
    pixels = check_crops(spec, None, 2)
    found, expected = open_onnx(path).run(pixels), graph(torch.from_numpy(pixels))
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-4)
