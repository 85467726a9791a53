"""Which backend runs a file: decisions alone, nothing is opened."""

import pytest
import torch

import lite.backends as backends
from lite.backends import able_backends, choose_backend, eager_backend
from lite.errors import ConfigError, MissingExtraError, ModelError


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch):
    """Sets which libraries there are."""

    def set_installed(*libraries: str) -> None:
        monkeypatch.setattr(backends, "find_spec", lambda name: object() if name in libraries else None)

    return set_installed


@pytest.mark.parametrize(
    ("libraries", "suffix", "device", "chosen"),
    [
        ((), "", "cpu", "eager"),
        ((), ".safetensors", "cuda:1", "eager"),
        ((), ".pt2", "cpu", "pt2"),
        (("openvino", "onnxruntime"), ".onnx", "cpu", "openvino"),
        (("onnxruntime",), ".onnx", "cpu", "onnxruntime"),
        (("openvino", "onnxruntime"), ".onnx", "cuda:0", "onnxruntime-cuda"),
        (("openvino",), ".xml", "cpu", "openvino"),
        (("tensorrt",), ".engine", "cuda", "tensorrt"),
        (("tensorrt",), ".plan", "cuda:1", "tensorrt"),
    ],
)
def test_the_fastest_installed(installed, libraries, suffix, device, chosen) -> None:
    installed(*libraries)
    assert choose_backend(suffix, device=device) == chosen


def test_a_missing_library_is_named_with_its_extra(installed) -> None:
    installed()
    with pytest.raises(MissingExtraError, match=r"pip install 'hpe-lite\[cpu\]'"):
        choose_backend(".onnx", device="cpu")
    with pytest.raises(MissingExtraError, match=r"tensorrt, which is not installed.*\[cuda\]"):
        choose_backend(".engine", "tensorrt", "cuda")
    installed("openvino")
    with pytest.raises(MissingExtraError, match="onnxruntime"):
        choose_backend(".onnx", "onnxruntime", "cpu")


def test_a_backend_for_other_files_is_refused(installed) -> None:
    installed("openvino", "onnxruntime")
    with pytest.raises(ConfigError, match=r"\.pt2 files run on pt2, asked for openvino"):
        choose_backend(".pt2", "openvino")
    with pytest.raises(ConfigError, match="run on eager, asked for onnxruntime"):
        choose_backend("", "onnxruntime")
    assert choose_backend(".onnx", "onnxruntime", "cpu") == "onnxruntime"


def test_a_device_that_cannot_run_the_file(installed) -> None:
    installed("openvino", "tensorrt")
    with pytest.raises(ModelError, match=r"\.xml files run on cpu, asked for cuda; give --device cpu"):
        choose_backend(".xml", device="cuda")
    with pytest.raises(ModelError, match=r"\.engine files run on cuda, asked for cpu; give --device cuda"):
        choose_backend(".engine", device="cpu")


def test_a_model_that_does_not_fit_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(eager_backend, "open", full)
    with pytest.raises(ModelError, match="pose17-small: device cuda:0 has too little free memory"):
        backends.open_backend("pose17-small", device="cuda:0")


def test_able_backends_do_not_depend_on_what_is_installed(installed) -> None:
    installed()
    assert able_backends("folder/x.ONNX") >= {"openvino", "onnxruntime", "onnxruntime-cuda"}
    assert able_backends("person-nano") == {"eager"}


def test_an_unknown_backend_or_mode() -> None:
    with pytest.raises(ConfigError, match="backend: expected auto or one of"):
        backends.open_backend("pose17-small", backend="tflite")
    with pytest.raises(ConfigError, match="mode: expected one of"):
        backends.open_backend("pose17-small", mode="int4")
    with pytest.raises(ConfigError, match="export it with --mode int8"):
        backends.open_backend("pose17-small", mode="int8", device="cpu")
