"""A network and codec small enough to export in a second."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from export.config import ExportConfig
from export.to_pt2 import to_pt2
from lite.artifact import ArtifactSpec, CropRule, sha256_of, write_spec
from lite.codecs import build_codec
from lite.graph import PixelGraph, describe

SPEC = ArtifactSpec(
    task="pose",
    model="toy",
    input_hw=(32, 24),
    mean=(120.0, 110.0, 100.0),
    std=(50.0, 60.0, 70.0),
    crop=CropRule(),
    codec={"name": "udp_heatmap", "input_hw": [32, 24], "heatmap_hw": [8, 6]},
    skeleton="coco17",
)


class ToyNetwork(nn.Module):
    """Two convolutions."""

    def __init__(self, keypoints: int = 5) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, keypoints, 3, 2, 1))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"heatmaps": self.body(x)}


@pytest.fixture(scope="session")
def toy_graph() -> PixelGraph:
    """Eager, float32, seeded."""
    torch.manual_seed(0)
    graph = PixelGraph(ToyNetwork().requires_grad_(False), build_codec(SPEC.codec), SPEC).eval()
    graph.spec = replace(SPEC, outputs=describe(graph).outputs)
    return graph


@pytest.fixture(scope="session")
def _exported(toy_graph: PixelGraph, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, ArtifactSpec]:
    path = tmp_path_factory.mktemp("toy") / "toy.pt2"
    to_pt2(toy_graph, path, ExportConfig(model="any", batch_max=8), lambda: None)
    versions = {"torch": torch.__version__}
    return path.read_bytes(), replace(toy_graph.spec, format="pt2", batch_range=(1, 8), versions=versions)


@pytest.fixture
def toy_pt2(_exported: tuple[bytes, ArtifactSpec], tmp_path: Path) -> Path:
    """A fresh copy of the exported toy with its JSON."""
    data, spec = _exported
    path = tmp_path / "toy.pt2"
    path.write_bytes(data)
    write_spec(path, replace(spec, sha256=sha256_of(path)))
    return path
