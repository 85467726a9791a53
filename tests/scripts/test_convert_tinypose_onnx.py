"""PP-TinyPose rebuilt from its ONNX graph gives the heatmaps of ONNX Runtime."""

import subprocess
import sys

import pytest

from lite.checkpoints import load_network
from lite.models.lite_hrnet import LiteHRNet


@pytest.mark.weights
def test_the_script_writes_weights_equal_to_the_graph(shared, root, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    source, target = shared / "weights" / "pp_tinypose_256x192.onnx", tmp_path / "x.safetensors"
    command = [sys.executable, str(root / "scripts" / "convert_tinypose_onnx.py"), str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, env={"PYTHONPATH": str(root)}, check=False)
    assert done.returncode == 0, done.stderr  # the script itself compares with ONNX Runtime
    network = load_network(target)
    assert isinstance(network, LiteHRNet)
    assert network.spec.model == "pose17-small"
