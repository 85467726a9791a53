"""OpenVINO files compute what the eager network does, store what the mode says, and hold nothing of this machine."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from export.config import ExportConfig
from export.pipeline import export
from export.to_openvino import to_openvino
from lite.artifact import read_spec, sha256_of, write_spec
from lite.backends import open_backend
from lite.backends.eager_backend import build_graph
from lite.backends.openvino_backend import OpenVINOBackend
from lite.backends.openvino_parts import split
from lite.graph import PixelGraph

openvino = pytest.importorskip("openvino")


def write(graph: PixelGraph, path: Path, crops: np.ndarray) -> OpenVINOBackend:
    """The artifact, opened."""
    config = ExportConfig(model="any", batch_max=6, format="openvino", mode=graph.spec.mode)
    written = to_openvino(graph, path, config, lambda: crops)
    weights = path.with_suffix(".bin")
    spec = replace(graph.spec, format="openvino", batch_range=(1, 6), versions=written.versions)
    write_spec(path, replace(spec, sha256=sha256_of(path), companions={weights.name: sha256_of(weights)}))
    return open_backend(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("to_openvino")


def test_float32(network: Callable[[], nn.Module], crops: np.ndarray, folder: Path) -> None:
    graph = build_graph(network())
    expected = graph(torch.from_numpy(crops))
    backend = write(graph, folder / "float32.xml", crops)
    for count in (1, 5):
        found = backend.run(crops[:count])
        assert {name: value.shape for name, value in found.items()} == {
            "keypoints": (count, 17, 2),
            "scores": (count, 17),
        }
        np.testing.assert_allclose(found["scores"], expected["scores"][:count], atol=1e-4, rtol=1e-4)
        wanted = expected["keypoints"][:count].numpy()
        steep = ((wanted > 0) & (wanted < graph.spec.input_hw[::-1])).all(2)  # a flat map's point is far outside
        assert steep.mean() > 0.6
        np.testing.assert_allclose(found["keypoints"][steep], wanted[steep], atol=0.05)
    text = (folder / "float32.xml").read_text()
    assert "Runtime_version" in text or "<rt_info>" in text
    for trace in (str(folder), "site-packages", "/tmp", "/home", "/root", ".py"):
        assert trace not in text


def test_the_file_describes_itself(folder: Path) -> None:
    """Needs the file of the test above."""
    model = openvino.Core().read_model(folder / "float32.xml")
    inside = json.loads(model.get_rt_info("hpe_lite_spec").value)
    assert (inside["format"], inside["mode"], inside["batch_range"]) == ("openvino", "float32", [1, 6])
    assert "sha256" not in inside and "check" not in inside
    batch = model.input(0).get_partial_shape()[0]
    assert (batch.get_min_length(), batch.get_max_length()) == (1, 6)


@pytest.mark.parametrize(("mode", "score_shift", "smaller"), [("bfloat16", 0.12, 0.62), ("int8", 0.2, 0.5)])
def test_reduced(
    mode: str, score_shift: float, smaller: float, network: Callable[[], nn.Module], crops: np.ndarray, folder: Path
) -> None:
    expected = build_graph(network())(torch.from_numpy(crops))
    backend = write(build_graph(network(), mode=mode), folder / f"{mode}.xml", crops)
    found = backend.run(crops)
    shift = np.abs(found["scores"] - expected["scores"].numpy())
    assert 0 < shift.max() < score_shift * expected["scores"].max()
    size = (folder / f"{mode}.bin").stat().st_size
    assert size < smaller * (folder / "float32.bin").stat().st_size


def test_only_the_network_is_reduced(folder: Path) -> None:
    """What is compiled in float32 has no stored bfloat16, and no convolution."""
    parts = split(openvino.Core().read_model(folder / "bfloat16.xml"))
    assert [part.reads[-1] for part in parts] == ["pixels", parts[0].makes[0], parts[1].makes[0]]
    assert parts[2].makes == ("keypoints", "scores")
    stored = [{node.get_output_element_type(0).get_type_name() for node in part.model.get_ops()} for part in parts]
    assert ["bf16" in kinds for kinds in stored] == [False, True, False]
    names = [{node.get_type_name() for node in part.model.get_ops()} for part in parts]
    assert ["Convolution" in kinds for kinds in names] == [False, True, False]
    assert [len(part.makes) for part in parts] == [1, 1, 2]


@pytest.mark.parametrize(("name", "mode"), [("pose17-small", "bfloat16"), ("person-nano", "float32")])
def test_the_default_pair_passes_the_check(name: str, mode: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "x.xml"
    config = ExportConfig(model=name, format="openvino", mode=mode, output=str(path), batch_max=8)
    assert export(config) == 0, capsys.readouterr().out
    spec = read_spec(path)
    assert spec.check["passed"] and list(spec.companions) == ["x.bin"]
    assert re.fullmatch(r"\d{4}\.\d+\.\d+", spec.versions["openvino"])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.bin", "x.xml", "x.xml.json"]
