"""The conversion of the ONNX detector, on the real file."""

import importlib.util
import sys

import pytest
import torch

from lite.checkpoints import load_network


@pytest.fixture
def script(root):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    location = importlib.util.spec_from_file_location("convert_rtmdet_onnx", root / "scripts/convert_rtmdet_onnx.py")
    module = importlib.util.module_from_spec(location)
    location.loader.exec_module(module)
    return module


def test_network_equals_the_graph(shared, script, tmp_path, monkeypatch, capsys):
    source = shared / "weights" / "rtmdet_nano_person.onnx"
    if not source.is_file():
        pytest.skip("needs weights/rtmdet_nano_person.onnx")
    output = tmp_path / "person-nano.safetensors"
    monkeypatch.setattr(sys, "argv", ["convert", str(source), str(output)])
    script.main()  # ends with an error where raw outputs differ from the graph
    assert "at most" in capsys.readouterr().out
    network = load_network(output)
    assert network.spec.model == "person-nano"
    assert all(torch.equal(m.running_mean, torch.zeros_like(m.running_mean)) for m in norms(network))


def norms(network):
    return [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]


def test_another_network_is_refused(shared, script, tmp_path, monkeypatch):
    monkeypatch.setattr(
        sys, "argv", ["convert", str(shared / "weights/yolox_nano.onnx"), str(tmp_path / "x.safetensors")]
    )
    with pytest.raises(SystemExit, match="another network"):
        script.main()
    assert not list(tmp_path.iterdir())
