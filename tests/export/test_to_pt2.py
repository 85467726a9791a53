"""Every family becomes a program that passes the vetting and gives the eager numbers at other batch sizes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from export.config import ExportConfig
from export.to_pt2 import to_pt2
from lite.artifact import sha256_of, write_spec
from lite.backends import open_backend
from lite.backends.eager_backend import build_graph
from lite.backends.fold import fold_batch_norm
from lite.checkpoints import load_network
from lite.models.lite_hrnet import LiteHRNet, pose_spec
from lite.models.rtmdet import rtmdet


def lite_hrnet(golden: Path) -> nn.Module:
    network = LiteHRNet()
    network.spec = pose_spec("pose17-small", (64, 64))
    return network


def checkpoint(name: str) -> Callable[[Path], nn.Module]:
    return lambda golden: load_network(golden / name)


NETWORKS = {
    "lite_hrnet": lite_hrnet,
    "rtmdet_nano": lambda golden: rtmdet("nano", "person", canvas=64),
    "rtmdet_tiny": lambda golden: rtmdet("tiny", "coco80", canvas=64),
    "vitpose_classic": checkpoint("vitpose/networks/classic_64x48/checkpoint.pth"),
    "vitpose_simple": checkpoint("vitpose/networks/simple_96x64/checkpoint.pth"),
    "sapiens": checkpoint("sapiens/networks/pose_tiny.pth"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_family(name: str, golden: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name](golden).eval()
    fold_batch_norm(network)
    graph = build_graph(network)
    path = tmp_path / "x.pt2"
    to_pt2(graph, path, ExportConfig(model="any", batch_max=6), lambda: None)
    spec = replace(graph.spec, format="pt2", batch_range=(1, 6), versions={"torch": torch.__version__})
    write_spec(path, replace(spec, sha256=sha256_of(path)))
    backend = open_backend(path)
    pixels = np.random.default_rng(0).integers(0, 256, (5, *spec.input_hw, 3), dtype=np.uint8)
    for count in (1, 5):
        found, expected = backend.run(pixels[:count]), graph(torch.from_numpy(pixels[:count]))
        np.testing.assert_allclose(found["scores"], expected["scores"], atol=2e-3, rtol=1e-3)
        assert {key: value.shape for key, value in found.items()} == {k: tuple(v.shape) for k, v in expected.items()}
    assert str(tmp_path).encode() not in path.read_bytes() and b"site-packages" not in path.read_bytes()


def test_a_batch_beyond_the_range_is_refused_by_the_program_too(golden: Path, tmp_path: Path) -> None:
    graph = build_graph(load_network(golden / "sapiens/networks/pose_tiny.pth"))
    to_pt2(graph, tmp_path / "x.pt2", ExportConfig(model="any", batch_max=3), lambda: None)
    module = torch.export.load(tmp_path / "x.pt2").module()
    with pytest.raises(RuntimeError, match="<= 3"):
        module(torch.zeros(4, 64, 48, 3, dtype=torch.uint8))
