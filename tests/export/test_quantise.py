"""int8 graphs: where the 8-bit values stand, how they are scaled, and that the poses hold."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from export.config import ExportConfig
from export.crops import check_crops
from export.quantise import activation_scales, heavy_nodes, quantise, quantised
from export.to_onnx import onnx_model, to_onnx
from lite.artifact import ArtifactSpec, CropRule, sha256_of, write_spec
from lite.backends.eager_backend import build_graph
from lite.backends.onnxruntime_backend import open as open_onnx
from lite.checkpoints import load_network
from lite.codecs import build_codec
from lite.errors import ConfigError
from lite.graph import PixelGraph, describe

onnx = pytest.importorskip("onnx")
onnx_ir = pytest.importorskip("onnx_ir")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

SPEC = ArtifactSpec(
    task="pose",
    model="toy",
    input_hw=(32, 24),
    mean=(120.0, 110.0, 100.0),
    std=(50.0, 60.0, 70.0),
    crop=CropRule(),
    codec={"name": "udp_heatmap", "input_hw": [32, 24], "heatmap_hw": [8, 6]},
    mode="int8",
)


class Mixed(nn.Module):
    """One of each kind of layer."""

    def __init__(self, heavy: bool = True) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, 4, 1) if heavy else nn.AvgPool2d(4)
        self.depthwise = nn.Conv2d(8 if heavy else 3, 8 if heavy else 3, 3, 1, 1, groups=8 if heavy else 3)
        self.up = nn.ConvTranspose2d(8, 6, 4, 2, 1) if heavy else nn.Identity()
        self.linear = nn.Linear(6, 10) if heavy else nn.Identity()
        self.attention = heavy

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.depthwise(self.first(x).relu())
        if self.attention:
            y = self.up(y)[:, :, ::2, ::2].flatten(2).transpose(1, 2)  # (B, 48, 6)
            y = self.linear(y + (y @ y.transpose(1, 2)).softmax(-1) @ y).transpose(1, 2).unflatten(2, (8, 6))
        return {"heatmaps": y}


def mixed_graph(heavy: bool = True) -> PixelGraph:
    torch.manual_seed(0)
    graph = PixelGraph(Mixed(heavy).requires_grad_(False), build_codec(SPEC.codec), SPEC).eval()
    graph.spec = replace(SPEC, outputs=describe(graph).outputs)
    return graph


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return check_crops(SPEC, None, 4)


@pytest.fixture(scope="module")
def mixed() -> bytes:
    """The exported graph, float32."""
    return onnx_ir.to_proto(onnx_model(mixed_graph(), 8)).SerializeToString()


def test_only_what_mixes_channels_with_constant_weights(mixed: bytes) -> None:
    nodes = heavy_nodes(onnx_ir.from_proto(onnx.load_from_string(mixed)))
    assert sorted(node.op_type for node in nodes) == ["Conv", "ConvTranspose", "MatMul"]
    assert {node.name.split("/")[0] for node in nodes} == {"network.first", "network.up", "network.linear"}


def test_symmetric_with_a_scale_per_channel(mixed: bytes, crops: np.ndarray) -> None:
    model = onnx_ir.to_proto(quantise(onnx_ir.from_proto(onnx.load_from_string(mixed)), SPEC, crops))
    onnx.checker.check_model(model, full_check=True)
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) == 3 * 3  # each of three layers: activation down and up, weight up
    for node in pairs:
        assert constants[node.input[2]].dtype == np.int8 and not constants[node.input[2]].any()
        assert (constants[node.input[1]] > 0).all()
    sizes = {node.input[0]: constants[node.input[1]].shape for node in pairs if node.input[0] in constants}
    assert sorted(sizes.values()) == [(6,), (8,), (10,)]
    assert all(np.abs(constants[name]).max() == 127 for name in sizes)


def test_weights_are_off_by_half_a_step_at_most() -> None:
    weight = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
    weight[:, 2] *= 100
    whole, scale = quantised(weight, 1)
    assert whole.dtype == np.int8 and scale.shape == (5,)
    assert (np.abs(whole * scale[None, :, None] - weight) <= scale[None, :, None] * 0.501).all()
    silent, scale = quantised(np.zeros((2, 3), np.float32), 0)
    assert not silent.any() and (scale > 0).all()


def test_scales_are_the_mean_of_each_crops_largest(mixed: bytes, crops: np.ndarray) -> None:
    graph, model = mixed_graph(), onnx_ir.from_proto(onnx.load_from_string(mixed))
    nodes = heavy_nodes(model)
    before = [node.name for node in model.graph], [value.name for value in model.graph.outputs]
    scales = activation_scales(model, nodes, crops)
    assert ([node.name for node in model.graph], [value.name for value in model.graph.outputs]) == before
    largest = graph.normalise(torch.from_numpy(crops)).abs().amax((1, 2, 3)).mean()
    first = next(node for node in nodes if node.name.startswith("network.first"))
    assert scales[first.inputs[0].name] == pytest.approx(float(largest) / 127, rel=1e-5)


def test_a_network_without_heavy_layers(crops: np.ndarray) -> None:
    with pytest.raises(ConfigError, match="no layer that could be int8"):
        quantise(onnx_model(mixed_graph(heavy=False), 8), SPEC, crops)


MEMORY = """
import resource
import numpy as np, torch
from dataclasses import replace
from torch import nn
from export.quantise import activation_scales, heavy_nodes
from export.to_onnx import onnx_model
from lite.artifact import ArtifactSpec
from lite.codecs import build_codec
from lite.graph import PixelGraph, describe

class Chain(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3 if i == 0 else 16, 16, 3, 1, 1) for i in range(20))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x).relu()
        return {"logits": x[:, :, ::8, ::8]}

spec = ArtifactSpec(task="segment", model="x", input_hw=(512, 512), mean=(0.0,) * 3, std=(1.0,) * 3,
                    codec={"name": "logits"}, mode="int8")
graph = PixelGraph(Chain().requires_grad_(False), build_codec(spec.codec), spec).eval()
graph.spec = replace(spec, outputs=describe(graph).outputs)
model = onnx_model(graph, 8)
import onnxruntime
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
activation_scales(model, heavy_nodes(model), np.zeros((1, 512, 512, 3), np.uint8))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_ranges_are_found_without_keeping_what_was_seen(root: Path) -> None:
    """Twenty tensors of 16 MB are measured in the memory of a few."""
    run = subprocess.run(
        [sys.executable, "-c", MEMORY], cwd=root, capture_output=True, text=True, check=True, timeout=300
    )
    assert float(run.stdout.split()[-1]) < 160  # MB


def test_poses_hold_in_8_bits(golden: Path, tmp_path: Path) -> None:
    """With the flip test, whose two passes share the weights; random weights are the hard case."""
    graph = build_graph(load_network(golden / "sapiens/networks/pose_tiny.pth"), mode="int8", flip_test=True)
    crops = check_crops(graph.spec, None, 8)
    path = tmp_path / "x.onnx"
    to_onnx(graph, path, ExportConfig(model="any", format="onnx", mode="int8", batch_max=8), lambda: crops)
    spec = replace(graph.spec, format="onnx", batch_range=(1, 8), sha256=sha256_of(path))
    write_spec(path, spec)
    found, expected = open_onnx(path).run(crops), graph(torch.from_numpy(crops))
    scores = expected["scores"].numpy()
    assert 0 < np.abs(found["scores"] - scores).mean() < 0.05 * scores.mean()
    shift = np.linalg.norm(found["keypoints"] - expected["keypoints"].numpy(), axis=2)
    assert np.median(shift) < 1.0  # px
