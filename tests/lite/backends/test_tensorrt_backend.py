"""An engine file is opened when it is trusted, fits this machine and its JSON, and runs what it is given."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from lite.artifact import ArtifactSpec, CropRule, OutputSpec, read_spec, sha256_of, write_spec
from lite.backends import open_backend, tensorrt_backend
from lite.backends.tensorrt_backend import check_same_version, choose_gpu
from lite.errors import ArtifactError, ConfigError, DeviceMemoryError, MissingExtraError, ModelError, UnsafeFileError
from lite.trust import remember
from tests import fake_tensorrt

onnx = pytest.importorskip("onnx")


def spec() -> ArtifactSpec:
    outputs = (
        OutputSpec(name="keypoints", shape=("N", 3, 2), dtype="float32", unit="crop px"),
        OutputSpec(name="scores", shape=("N", 3), dtype="float32", unit="0..1"),
    )
    return ArtifactSpec(
        task="pose",
        model="toy",
        input_hw=(4, 6),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        crop=CropRule(),
        codec={"name": "udp_heatmap", "input_hw": [4, 6], "heatmap_hw": [2, 3]},
        outputs=outputs,
        mode="bfloat16",
        format="tensorrt",
        batch_range=(1, 8),
        versions={"tensorrt": "10.13.3.9"},
        device=fake_tensorrt.TAG,
    )


def engine_bytes() -> bytes:
    """Means of the colours as scores, and twice beside each other as points."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Cast", ["pixels"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["real", "sides"], ["scores"], keepdims=0),
        helper.make_node("Unsqueeze", ["scores", "last"], ["one"]),
        helper.make_node("Concat", ["one", "one"], ["keypoints"], axis=2),
    ]
    constants = {"sides": np.array([1, 2]), "last": np.array([2])}
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", 4, 6, 3])],
        [
            helper.make_tensor_value_info("keypoints", TensorProto.FLOAT, ["batch", 3, 2]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return fake_tensorrt.MAGIC + b"1 8\n" + model.SerializeToString()


@pytest.fixture
def engine(tensorrt: ModuleType, tmp_path: Path) -> Path:
    """An engine file that this installation built, with its JSON."""
    path = tmp_path / "toy.engine"
    path.write_bytes(engine_bytes())
    write_spec(path, replace(spec(), sha256=sha256_of(path)))
    remember(sha256_of(path), path.name)
    return path


def change(path: Path, **fields: Any) -> None:
    write_spec(path, replace(read_spec(path), **fields))


@pytest.mark.parametrize("count", [1, 3, 8])
def test_crops_in_arrays_out(engine: Path, count: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 4, 6, 3), dtype=np.uint8)
    backend = open_backend(engine, device="cuda")
    found = backend.run(pixels)
    np.testing.assert_allclose(found["scores"], pixels.mean((1, 2)), rtol=1e-6)
    np.testing.assert_allclose(found["keypoints"][..., 1], pixels.mean((1, 2)), rtol=1e-6)
    assert {name: value.dtype.name for name, value in found.items()} == {"keypoints": "float32", "scores": "float32"}
    assert backend.describe == "toy, tensorrt bfloat16 on cpu"
    backend.close()


def test_no_crops_give_empty_outputs_and_too_many_are_refused(engine: Path) -> None:
    backend = open_backend(engine, device="cuda")
    assert {name: value.shape for name, value in backend.run(np.zeros((0, 4, 6, 3), np.uint8)).items()} == {
        "keypoints": (0, 3, 2),
        "scores": (0, 3),
    }
    with pytest.raises(ModelError, match="at most 8 crops at once, found 9"):
        backend.run(np.zeros((9, 4, 6, 3), np.uint8))


def test_threads_take_turns(engine: Path, tensorrt: ModuleType) -> None:
    backend = open_backend(engine, device="cuda")
    wrong = []

    def work(value: int) -> None:
        pixels = np.full((1 + value % 8, 4, 6, 3), value, np.uint8)
        for _ in range(50):
            if not (backend.run(pixels)["scores"] == value).all():
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and tensorrt.contexts == 1


def test_a_run_that_fails_is_a_sentence(engine: Path, tensorrt: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = open_backend(engine, device="cuda")
    tensorrt.breaks = True
    with pytest.raises(ModelError, match="toy: TensorRT could not run 2 crops"):
        backend.run(np.zeros((2, 4, 6, 3), np.uint8))
    tensorrt.breaks = False

    def full(self: object, pixels: np.ndarray) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("lite.backends.transfer.Transfer.give", full)
    with pytest.raises(DeviceMemoryError, match="2 crops at once need more memory"):
        backend.run(np.zeros((2, 4, 6, 3), np.uint8))


def test_only_what_was_built_here_is_opened(
    engine: Path, tensorrt: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HPE_LITE_TRUST", str(tmp_path / "another.json"))
    with pytest.raises(UnsafeFileError, match=r"machine code and this installation did not build it.*--trust"):
        open_backend(engine, device="cuda")
    assert tensorrt.opened == 0
    open_backend(engine, device="cuda", trust=True).close()
    assert tensorrt.opened == 1


def test_a_changed_file_is_not_opened_even_when_trusted(engine: Path, tensorrt: ModuleType) -> None:
    engine.write_bytes(engine.read_bytes() + b"!")
    with pytest.raises(ArtifactError, match=r"its sha256 is not the one in toy\.engine\.json"):
        open_backend(engine, device="cuda", trust=True)
    assert tensorrt.opened == 0


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"device": "cuda sm_90 NVIDIA H100 80GB HBM3"},
            "built for cuda sm_90 NVIDIA H100 80GB HBM3, this is cuda sm_90",
        ),
        ({"device": "cuda sm_80 NVIDIA A100"}, "built for cuda sm_80"),
        ({"versions": {"tensorrt": "10.13.3.10"}}, r"built with TensorRT 10\.13\.3\.10, this is 10\.13\.3\.9; install"),
        ({"versions": {}}, "built with TensorRT of no version"),
        ({"format": "onnx"}, "expected format tensorrt in its JSON, found onnx"),
    ],
)
def test_a_file_for_another_machine_is_refused_unseen(
    engine: Path, tensorrt: ModuleType, fields: dict, sentence: str
) -> None:
    change(engine, **fields)
    with pytest.raises(ArtifactError, match=sentence):
        open_backend(engine, device="cuda")
    assert tensorrt.opened == 0


def test_another_mode_is_refused(engine: Path) -> None:
    with pytest.raises(ConfigError, match="exported as bfloat16, asked for float32"):
        open_backend(engine, device="cuda", mode="float32")


def outputs(**fields: Any) -> tuple[OutputSpec, ...]:
    first, *rest = spec().outputs
    return (replace(first, **fields), *rest)


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"batch_range": (1, 16)}, "batches of 1 to 16, the file takes 1 to 8"),
        ({"input_hw": (6, 4)}, r"pixels is \('input', \(6, 4, 3\), 'uint8'\), the file has \('input', \(4, 6, 3\)"),
        ({"outputs": outputs(shape=("N", 4, 2))}, "keypoints is"),
        ({"outputs": outputs(dtype="int64")}, "keypoints is"),
        ({"outputs": spec().outputs[:1]}, "scores is not there"),
        ({"outputs": outputs(name="points")}, "points is .* the file has no such tensor"),
    ],
)
def test_the_json_must_describe_this_file(engine: Path, fields: dict, part: str) -> None:
    with pytest.raises(ArtifactError, match=f"its JSON says {part}"):
        tensorrt_backend.check_engine(
            tensorrt_backend.deserialize(engine.read_bytes(), engine, torch.device("cpu")),
            replace(spec(), **fields),
            engine,
        )


def test_what_tensorrt_cannot_load_is_a_sentence(engine: Path) -> None:
    engine.write_bytes(b"no engine at all")
    change(engine, sha256=sha256_of(engine))
    with pytest.raises(ArtifactError, match=r"cannot load it \(magic tag does not match\); export the model again"):
        open_backend(engine, device="cuda", trust=True)


def test_without_tensorrt_the_command_that_installs_it_is_named(
    engine: Path, monkeypatch: pytest.MonkeyPatch, hidden: Callable[[], None]
) -> None:
    hidden()
    with pytest.raises(MissingExtraError, match=r"pip install 'hpe-lite\[cuda\]'"):
        open_backend(engine, device="cuda", backend="tensorrt")
    with pytest.raises(MissingExtraError, match=r"pip install 'hpe-lite\[cuda\]'"):
        tensorrt_backend.open(engine)


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    import sys

    def hide() -> None:
        monkeypatch.delitem(sys.modules, "tensorrt")
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        monkeypatch.setattr("lite.backends._installed", lambda name: name != "tensorrt")

    return hide


def test_on_the_cpu_another_format_is_proposed() -> None:
    with pytest.raises(ConfigError, match="run on a GPU, found cpu; export the model as onnx or pt2"):
        choose_gpu("cpu")


def test_versions_are_compared_to_the_last_digit(tmp_path: Path) -> None:
    check_same_version(spec(), tmp_path, "10.13.3.9")
    with pytest.raises(ArtifactError):
        check_same_version(spec(), tmp_path, "10.13.3.90")
