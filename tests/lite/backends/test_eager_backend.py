"""Zoo names and checkpoints opened as they are."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from lite.backends import open_backend
from lite.backends.devices import choose_device, has_fast_bfloat16
from lite.backends.eager_backend import choose_mode
from lite.checkpoints import read_state_dict
from lite.errors import ConfigError, ModelError


@pytest.fixture(scope="module")
def tiny(golden: Path) -> Path:
    return golden / "sapiens/networks/pose_tiny.pth"


@pytest.fixture(scope="module")
def crops(golden: Path) -> np.ndarray:
    image = np.load(golden / "sapiens/networks/pose_tiny.npz")["image_bgr_a"]
    return np.ascontiguousarray(image[:, ::-1].transpose(0, 2, 3, 1))


def test_a_checkpoint_gives_the_original_scores(tiny: Path, golden: Path, crops: np.ndarray) -> None:
    backend = open_backend(tiny, mode="float32", flip_test=True)
    outputs = backend.run(crops)
    expected = np.load(golden / "sapiens/networks/pose_tiny.npz")["pred_scores"]
    np.testing.assert_allclose(outputs["scores"], expected, atol=2e-4)
    assert backend.spec.flip_test and backend.spec.format == "eager"
    backend.close()


def test_bfloat16_is_close_but_not_equal(tiny: Path, crops: np.ndarray) -> None:
    exact = open_backend(tiny, mode="float32").run(crops)["scores"]
    rough = open_backend(tiny, mode="bfloat16").run(crops)["scores"]
    assert 1e-4 < np.abs(exact - rough).max() < 0.3


def test_a_bare_trunk_cannot_run(tiny: Path, tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in read_state_dict(tiny)[0].items() if name.startswith("backbone.")}
    torch.save(state, tmp_path / "trunk.pth")
    with pytest.raises(ModelError, match="expected a network with a head, found a bare trunk"):
        open_backend(tmp_path / "trunk.pth")


def test_the_embedded_detector(root: Path) -> None:
    backend = open_backend("person-nano", mode="float32")
    outputs = backend.run(np.zeros((2, *backend.spec.input_hw, 3), np.uint8))
    assert outputs["boxes"].shape[0] == 2 and outputs["boxes"].shape[2] == 4
    assert backend.run(np.zeros((0, *backend.spec.input_hw, 3), np.uint8))["labels"].dtype == np.int64


def test_the_mode_is_chosen_and_explained(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, small, embedded = torch.device("cpu"), nn.Linear(10, 10), nn.Linear(10, 10)
    small.spec, embedded.spec = (
        SimpleNamespace(model=name, task="pose") for name in ("sapiens-custom", "pose17-small")
    )
    large, detector, tagged = (nn.Linear(3200, 3200) for _ in range(3))
    for network, task in ((large, "pose"), (detector, "detect"), (tagged, "pose-bottom-up")):
        network.spec = SimpleNamespace(model="large", task=task)
    monkeypatch.setattr("lite.backends.eager_backend.has_fast_bfloat16", lambda device: True)
    assert choose_mode(large, "auto", cpu) == ("bfloat16", "fast on this device")
    assert choose_mode(detector, "auto", cpu) == ("float32", "a detector")
    assert choose_mode(tagged, "auto", cpu) == ("float32", "a bottom-up network")
    assert choose_mode(tagged, "bfloat16", cpu) == ("bfloat16", "as asked")
    assert choose_mode(tagged.bfloat16(), "auto", cpu) == ("bfloat16", "fast on this device")
    assert choose_mode(small, "auto", cpu) == ("float32", "a small network")
    assert choose_mode(embedded, "auto", cpu) == ("bfloat16", "fast on this device")
    assert "eager float32 (a small network) on cpu" in open_backend(tiny, device="cpu").describe
    monkeypatch.setattr("lite.backends.eager_backend.has_fast_bfloat16", lambda device: False)
    assert choose_mode(large, "auto", cpu) == ("float32", "no fast bfloat16 on this device")
    assert choose_mode(embedded, "auto", cpu) == ("float32", "no fast bfloat16 on this device")
    assert choose_mode(small, "bfloat16", cpu) == ("bfloat16", "as asked")


def test_devices() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert isinstance(has_fast_bfloat16(torch.device("cpu")), bool)
    for wrong in ("gpu", "cuda:99", "meta", ""):
        with pytest.raises(ConfigError, match="device"):
            choose_device(wrong)


@pytest.mark.parametrize(
    ("name", "says"), [("pose17-smal", "pose17-small"), ("x/y.pth", "no such file"), ("model.onnx", "onnx")]
)
def test_unknown_models(name: str, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        open_backend(name)


def test_threads(tiny: Path) -> None:
    before = torch.get_num_threads()
    try:
        open_backend(tiny, threads=1)
        assert torch.get_num_threads() == 1
        with pytest.raises(ConfigError, match="threads"):
            open_backend(tiny, threads=0)
    finally:
        torch.set_num_threads(before)
