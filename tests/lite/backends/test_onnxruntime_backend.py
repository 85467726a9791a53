"""ONNX Runtime runs a file as the eager graph does, where it was asked to, or says why not."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from export.config import ExportConfig
from lite.artifact import ArtifactSpec, read_spec, sha256_of, write_spec
from lite.backends import open_backend
from lite.backends.artifact_file import embedded_spec
from lite.backends.onnxruntime_backend import _check_provider, _make_private, _options, providers
from lite.errors import ArtifactError, ConfigError, MissingExtraError, ModelError, UnsafeFileError
from lite.graph import PixelGraph

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="session")
def _written(toy_graph: PixelGraph, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, ArtifactSpec]:
    from export.to_onnx import to_onnx

    path = tmp_path_factory.mktemp("toy") / "toy.onnx"
    config = ExportConfig(model="any", format="onnx", batch_max=8)
    written = to_onnx(toy_graph, path, config, lambda: None)
    return path.read_bytes(), replace(toy_graph.spec, format="onnx", batch_range=(1, 8), versions=written.versions)


@pytest.fixture
def toy_onnx(_written: tuple[bytes, ArtifactSpec], tmp_path: Path) -> Path:
    """A fresh copy of the exported toy with its JSON."""
    data, spec = _written
    path = tmp_path / "toy.onnx"
    path.write_bytes(data)
    write_spec(path, replace(spec, sha256=sha256_of(path)))
    return path


def rewrite(path: Path, change: Callable, **fields: object) -> None:
    """Change the file and everything that is said of it alike, so that only the runtime can notice."""
    model, spec = onnx.load(path), replace(read_spec(path), **fields)
    change(model)
    model.metadata_props[0].value = json.dumps(embedded_spec(spec))
    onnx.save(model, path)
    write_spec(path, replace(spec, sha256=sha256_of(path)))


PORT = '<port id="0"><dim>1</dim></port>'
XML = f"""<net name="x" version="11"><layers>
<layer id="0" name="a" type="Parameter" version="opset1"><data shape="1" element_type="f32"/>
<output>{PORT}</output></layer>
<layer id="1" name="b" type="Result" version="opset1"><input>{PORT}</input></layer>
</layers><edges><edge from-layer="0" from-port="0" to-layer="1" to-port="0"/></edges></net>"""


@pytest.mark.parametrize(("backend", "producer"), [("openvino", XML), ("onnxruntime", "ORTM")])
def test_what_runs_is_what_was_looked_through(
    toy_onnx: Path, toy_graph: PixelGraph, backend: str, producer: str
) -> None:
    """To each runtime this file is also one of its own format, which nobody has looked through."""
    pytest.importorskip(backend)
    rewrite(toy_onnx, lambda model: setattr(model, "producer_name", producer))
    assert producer.encode() in toy_onnx.read_bytes()[4:1000]
    crops = np.random.default_rng(0).integers(0, 256, (2, 32, 24, 3), dtype=np.uint8)
    found, expected = open_backend(toy_onnx, backend=backend).run(crops), toy_graph(torch.from_numpy(crops))
    np.testing.assert_allclose(found["scores"], expected["scores"].numpy(), atol=1e-3)


@pytest.mark.parametrize("count", [0, 1, 3, 8])
def test_equal_to_eager_at_every_batch(toy_onnx: Path, toy_graph: PixelGraph, count: int) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (8, 32, 24, 3), dtype=np.uint8)[:count]
    outputs = open_backend(toy_onnx, backend="onnxruntime").run(crops)
    assert list(outputs) == ["keypoints", "scores"]
    assert outputs["keypoints"].shape == (count, 5, 2) and outputs["scores"].dtype == np.float32
    if count:
        for name, value in toy_graph(torch.from_numpy(crops)).items():
            np.testing.assert_allclose(outputs[name], value.numpy(), atol=1e-3, rtol=1e-4)


def test_what_it_says_of_itself(toy_onnx: Path) -> None:
    backend = open_backend(toy_onnx, backend="onnxruntime", device="cpu")
    assert backend.describe == "toy, ONNX Runtime, float32 on cpu" and backend.device == "cpu"
    backend.close()


def test_threads_are_those_of_the_whole_process(toy_onnx: Path) -> None:
    before = torch.get_num_threads()
    try:
        backend = open_backend(toy_onnx, backend="onnxruntime", device="cpu", threads=3)
        assert backend.session.get_session_options().intra_op_num_threads == torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("shape", "dtype", "says"),
    [
        ((9, 32, 24, 3), np.uint8, "at most 8"),
        ((1, 24, 32, 3), np.uint8, "32, 24, 3"),
        ((1, 32, 24, 3), np.float32, "uint8"),
    ],
)
def test_pixels_that_do_not_fit(toy_onnx: Path, shape: tuple, dtype: type, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        open_backend(toy_onnx, backend="onnxruntime").run(np.zeros(shape, dtype))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mode": "bfloat16"}, "exported as float32"),
        ({"flip_test": True}, "exported without"),
        ({"device": "cuda:0"}, "use onnxruntime-cuda"),
        ({"device": "toaster"}, "found 'toaster'"),
        ({"device": "cpu:zero"}, "found 'cpu:zero'"),
    ],
)
def test_requests_it_cannot_meet(toy_onnx: Path, options: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        open_backend(toy_onnx, backend="onnxruntime", **options)


def test_bfloat16_is_refused_on_the_processor(toy_onnx: Path) -> None:
    spec = read_spec(toy_onnx)
    write_spec(toy_onnx, replace(spec, mode="bfloat16"))
    with pytest.raises(ConfigError, match=r"computes float32, float16, int8 on the processor.*openvino"):
        open_backend(toy_onnx, backend="onnxruntime")


def test_outputs_the_runtime_sees_otherwise(toy_onnx: Path) -> None:
    """Nothing that the file says of itself is taken for granted: what is computed has another shape."""

    def cut(model: object) -> None:
        last = next(node for node in model.graph.node if "keypoints" in node.output)
        last.output[0] = "whole"
        add = model.graph.initializer.add
        add(name="axis", data_type=7, dims=[1], raw_data=np.int64([1]).tobytes())
        add(name="start", data_type=7, dims=[1], raw_data=np.int64([0]).tobytes())
        add(name="stop", data_type=7, dims=[1], raw_data=np.int64([2]).tobytes())
        model.graph.node.add(op_type="Slice", input=["whole", "start", "stop", "axis"], output=["keypoints"])

    rewrite(toy_onnx, cut)
    with pytest.raises(ArtifactError, match="ONNX Runtime"):
        open_backend(toy_onnx, backend="onnxruntime").run(np.zeros((1, 32, 24, 3), np.uint8))


def test_an_operator_that_does_not_exist(toy_onnx: Path) -> None:
    rewrite(toy_onnx, lambda model: setattr(model.graph.node[-1], "op_type", "Levitate"))
    with pytest.raises(ArtifactError, match=r"cannot load it.*Levitate"):
        open_backend(toy_onnx, backend="onnxruntime")


@pytest.mark.parametrize("backend", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_a_provider_that_is_not_installed(toy_onnx: Path, backend: str) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("needs a machine without CUDA")
    with pytest.raises(MissingExtraError, match="onnxruntime-gpu"):
        open_backend(toy_onnx, backend=backend)
    with pytest.raises(ConfigError, match="use onnxruntime"):
        open_backend(toy_onnx, backend=backend, device="cpu")


def test_a_library_that_is_not_installed(toy_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lite.backends.onnxruntime_backend import open as open_onnx

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"hpe-lite\[cpu\]"):
        open_onnx(toy_onnx)


def test_a_provider_that_did_not_start(toy_onnx: Path) -> None:
    """ONNX Runtime prints a line and goes on without it; that is not for us."""
    session = onnxruntime.InferenceSession(toy_onnx.read_bytes(), providers=["CPUExecutionProvider"])
    with pytest.raises(ArtifactError, match="CUDAExecutionProvider was asked for and could not start"):
        _check_provider(session, "CUDAExecutionProvider", toy_onnx)


def test_a_provider_that_leaves_the_heavy_part_to_the_processor(toy_onnx: Path) -> None:
    """A real session's record of who computes what, under the name of a provider that got nothing."""
    options = _options(onnxruntime, 1, "cuda")
    real = onnxruntime.InferenceSession(toy_onnx.read_bytes(), options, ["CPUExecutionProvider"])
    session = SimpleNamespace(
        get_providers=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
        get_provider_graph_assignment_info=real.get_provider_graph_assignment_info,
    )
    with pytest.raises(ArtifactError, match=r"CUDAExecutionProvider cannot compute .*Conv"):
        _check_provider(session, "CUDAExecutionProvider", toy_onnx)


def test_providers_and_their_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    spec = replace(SPEC, batch_range=(1, 64), sha256="a" * 64)
    assert [name for name, _ in providers(spec, "", "cpu")] == ["CPUExecutionProvider"]
    (first, options), (last, _) = providers(spec, "cuda", "cuda:2")
    assert (first, last, options["device_id"]) == ("CUDAExecutionProvider", "CPUExecutionProvider", "2")
    names = [name for name, _ in providers(spec, "tensorrt", "cuda:0")]
    assert names == ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    options = providers(spec, "tensorrt", "cuda:0")[0][1]
    assert options["trt_profile_min_shapes"] == "pixels:1x32x24x3"
    assert options["trt_profile_opt_shapes"] == "pixels:8x32x24x3"
    assert options["trt_profile_max_shapes"] == "pixels:64x32x24x3"
    assert options["trt_engine_cache_path"].startswith(str(tmp_path))
    assert options["trt_engine_cache_prefix"] == "a" * 16
    few = providers(replace(spec, batch_range=(1, 4)), "tensorrt", "cuda:0")[0][1]
    assert few["trt_profile_opt_shapes"] == "pixels:4x32x24x3"


def test_the_folder_of_machine_code_is_the_users_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    _make_private(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    with pytest.raises(UnsafeFileError, match="others can write"):
        _make_private(folder)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="XDG_CACHE_HOME"):
        _make_private(tmp_path / "file" / "b")


SPEC = ArtifactSpec(
    task="pose", model="toy", input_hw=(32, 24), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), format="onnx"
)
