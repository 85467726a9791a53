"""TensorRT files up to the builder: what is asked of the machine, the graph, the builder and the cache."""

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from export.config import ExportConfig
from export.crops import check_crops
from export.pipeline import export
from export.quantise import quantise
from export.tensorrt_cache import Batches, cache_folder
from export.to_onnx import to_onnx
from export.to_tensorrt import batches, check_ready, creation_flags, prepare, to_tensorrt, workspace
from lite.artifact import read_spec
from lite.backends import open_backend
from lite.backends.eager_backend import build_graph
from lite.checkpoints import load_network
from lite.errors import ConfigError, MissingExtraError, ModelError
from lite.graph import PixelGraph

onnx = pytest.importorskip("onnx")

CONFIG = ExportConfig(model="any", format="tensorrt", device="cuda", batch_max=16, batch_opt=4)


@pytest.fixture(scope="module")
def graph(tiny: Path) -> PixelGraph:
    return build_graph(load_network(tiny))


@pytest.fixture(scope="module")
def onnx_bytes(graph: PixelGraph, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    pytest.importorskip("onnxscript")
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    to_onnx(graph, path, CONFIG, missing)
    return path.read_bytes()


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch, onnx_bytes: bytes) -> Callable[[bytes], None]:
    """The conversion to ONNX done beforehand; calling it has another graph come out."""

    def use(data: bytes) -> None:
        def write(graph: PixelGraph, path: Path, config: ExportConfig, calibration: Callable) -> None:
            assert config.format == "onnx" and config.mode == CONFIG.mode
            path.write_bytes(data)

        monkeypatch.setattr("export.to_onnx.to_onnx", write)

    use(onnx_bytes)
    return use


def missing() -> np.ndarray:
    raise AssertionError("only int8 needs crops")


def test_without_tensorrt_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export.to_tensorrt.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"tensorrt.*pip install 'hpe-lite\[cuda\]'"):
        check_ready(CONFIG)


def test_what_is_missing_is_said_before_the_network_is_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("export.to_tensorrt.find_spec", lambda name: None)
    monkeypatch.setattr("export.pipeline.load_network", lambda *given, **named: pytest.fail("a network was loaded"))
    output = tmp_path / "new" / "x.engine"
    with pytest.raises(MissingExtraError):
        export(ExportConfig(model="any", format="tensorrt", device="cuda", output=str(output)))
    assert not output.parent.exists()


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("tensorrt")
    module.__spec__, module.__version__ = ModuleSpec("tensorrt", None), "10.13.3.9"
    monkeypatch.setattr("export.to_tensorrt.find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    return module


def test_without_a_gpu_nothing_is_begun(
    installed: ModuleType, monkeypatch: pytest.MonkeyPatch, graph: PixelGraph, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("export.to_onnx.to_onnx", lambda *given: pytest.fail("the graph was converted"))
    with pytest.raises(ConfigError, match="built on the GPU that runs it, torch sees none here; export on such a"):
        to_tensorrt(graph, tmp_path / "x.engine", CONFIG, missing)
    assert list(tmp_path.iterdir()) == []


def test_versions_and_devices_that_cannot_do_it_are_named(
    installed: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert check_ready(CONFIG) == torch.device("cuda:1")
    assert check_ready(ExportConfig(model="any", format="tensorrt", device="cuda:0")) == torch.device("cuda:0")
    with pytest.raises(ConfigError, match="built on a GPU, asked for cpu; pass cuda"):
        check_ready(ExportConfig(model="any", format="tensorrt", device="cpu"))
    installed.__version__ = "8.6.1"
    with pytest.raises(ConfigError, match=r"expected TensorRT 10\.0 or newer, found 8\.6\.1; update tensorrt"):
        check_ready(CONFIG)


def test_batches_and_scratch_memory() -> None:
    assert batches(CONFIG) == Batches(least=1, best=4, most=16)
    assert workspace(80 * 2**30) == 8 * 2**30
    assert workspace(4 * 2**30 + 5) == 2**30


@pytest.mark.parametrize(
    ("version", "flags", "bits"),
    [("10.9.0", {"STRONGLY_TYPED": 1}, 2), ("11.4.0", {"STRONGLY_TYPED": 1}, 2), ("11.9.0", {}, 0)],
)
def test_strong_typing_is_asked_for_where_it_has_to_be(version: str, flags: dict, bits: int) -> None:
    flags = SimpleNamespace(**flags)
    assert creation_flags(SimpleNamespace(NetworkDefinitionCreationFlag=flags, __version__=version)) == bits


def test_an_old_tensorrt_without_strong_typing_is_refused() -> None:
    old = SimpleNamespace(NetworkDefinitionCreationFlag=SimpleNamespace(), __version__="10.0.1")
    with pytest.raises(ConfigError, match="update tensorrt"):
        creation_flags(old)


@pytest.mark.usefixtures("converted")
def test_what_the_builder_is_told(tensorrt: ModuleType, graph: PixelGraph, tmp_path: Path) -> None:
    path = tmp_path / "out" / "x.engine"
    path.parent.mkdir()
    written = to_tensorrt(graph, path, CONFIG, missing)
    assert (written.native, written.device) == (True, "cuda sm_90 NVIDIA H200")
    assert written.versions == {"tensorrt": "10.13.3.9"}
    assert [file.name for file in path.parent.iterdir()] == ["x.engine"], "nothing that looks like a companion"
    (settings,) = tensorrt.built
    height, width = graph.spec.input_hw
    assert settings.profiles[0].shapes == {"pixels": tuple((n, height, width, 3) for n in (1, 4, 16))}
    assert settings.pools == {tensorrt.MemoryPoolType.WORKSPACE: 8 * 2**30}
    assert settings.flags == set(), "TF32 is on by default"


def test_the_same_graph_is_built_once(
    tensorrt: ModuleType, graph: PixelGraph, tmp_path: Path, converted: Callable[[bytes], None], onnx_bytes: bytes
) -> None:
    def write(config: ExportConfig = CONFIG) -> bytes:
        to_tensorrt(graph, tmp_path / "x.engine", config, missing)
        return (tmp_path / "x.engine").read_bytes()

    first = write()
    assert write() == first and len(tensorrt.built) == 1
    write(ExportConfig(model="any", format="tensorrt", device="cuda", batch_max=32, batch_opt=4))
    assert len(tensorrt.built) == 2, "another profile is another file"
    tensorrt.__version__ = "10.13.3.10"
    write()
    assert len(tensorrt.built) == 3, "another TensorRT too"
    changed = onnx.load_from_string(onnx_bytes)
    weights = next(t for t in changed.graph.initializer if t.name.startswith("network"))
    weights.raw_data = bytes(len(weights.raw_data))
    converted(changed.SerializeToString())
    write()
    assert len(tensorrt.built) == 4, "and another weight"
    for file in cache_folder().glob("*.engine"):
        file.write_bytes(b"somebody else's code")
    write()
    assert len(tensorrt.built) == 5, "a file that was not built here is not used"


@pytest.mark.usefixtures("converted")
def test_kernel_timings_are_kept(tensorrt: ModuleType, graph: PixelGraph, tmp_path: Path) -> None:
    to_tensorrt(graph, tmp_path / "a.engine", CONFIG, missing)
    (timing,) = cache_folder().glob("*.timing")
    assert timing.read_bytes() == b"timing"
    for file in cache_folder().glob("*.engine"):
        file.unlink()
    to_tensorrt(graph, tmp_path / "b.engine", CONFIG, missing)
    assert timing.read_bytes() == b"timingtiming", "the second build began with the first one's"


@pytest.mark.usefixtures("converted")
def test_why_the_builder_gave_up(tensorrt: ModuleType, graph: PixelGraph, tmp_path: Path) -> None:
    tensorrt.fails = "Error Code 10: Internal Error (no implementation for node)\nmore of it"
    with pytest.raises(ModelError) as caught:
        to_tensorrt(graph, tmp_path / "x.engine", CONFIG, missing)
    assert "could not build the file (Error Code 10: Internal Error (no implementation for node)); export" in str(
        caught.value
    )
    assert "more of it" not in str(caught.value) and not (tmp_path / "x.engine").exists()
    assert not cache_folder().exists()


@pytest.mark.usefixtures("converted")
def test_why_the_parser_gave_up(
    tensorrt: ModuleType, graph: PixelGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.to_tensorrt.cast_pixels_first", lambda model: False)
    monkeypatch.setattr("export.to_tensorrt.unsupported", lambda model: [])
    with pytest.raises(ModelError, match=r"could not read the graph \(UINT8 is not supported at network/Transpose_1\)"):
        to_tensorrt(graph, tmp_path / "x.engine", CONFIG, missing)


def test_unsupported_operators_are_named_before_anything_is_built(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Det", ["x"], ["y"])
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [3, 3]) for name in "xy"]
    made = onnx.helper.make_model(
        onnx.helper.make_graph([node], "toy", value[:1], value[1:]), opset_imports=[onnx.helper.make_opsetid("", 18)]
    )
    onnx.save(made, tmp_path / "x.onnx")
    with pytest.raises(ModelError, match="toy: TensorRT cannot run Det in its graph; export it in another format"):
        prepare(tmp_path / "x.onnx", "toy")


def test_weights_outside_the_file_count(tmp_path: Path) -> None:
    hashes = []
    for value in (0.0, 1.0):
        weights = onnx.numpy_helper.from_array(np.full((64, 64), value, np.float32), "w")
        ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 64]) for name in "xy"]
        node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
        graph = onnx.helper.make_graph([node], "toy", ends[:1], ends[1:], [weights])
        made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
        path = tmp_path / str(value) / "x.onnx"
        path.parent.mkdir()
        onnx.save(made, path, save_as_external_data=True, location="x.onnx.data", size_threshold=0)
        hashes.append(prepare(path, "toy"))
    assert hashes[0] != hashes[1]


def test_8_bit_graphs_are_what_tensorrt_takes(onnx_bytes: bytes, graph: PixelGraph, tmp_path: Path) -> None:
    """Signed, symmetric, weights with a scale per channel, biases left alone."""
    onnx_ir = pytest.importorskip("onnx_ir")
    model = onnx_ir.from_proto(onnx.load_from_string(onnx_bytes))
    quantised = quantise(model, graph.spec, check_crops(graph.spec, None, 2))
    path = tmp_path / "x.onnx"
    onnx_ir.save(quantised, path)
    prepare(path, "tiny")
    operators = [node.op_type for node in onnx.load(path).graph.node]
    assert operators.count("DequantizeLinear") > operators.count("QuantizeLinear") > 4


def test_from_the_command_to_a_file_that_passes_the_gate(tensorrt: ModuleType, tiny: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "x.engine"
    config = ExportConfig(checkpoint=str(tiny), format="tensorrt", device="cuda", output=str(output), batch_max=8)
    assert export(config) == 0
    spec = read_spec(output)
    assert (spec.format, spec.device, spec.batch_range) == ("tensorrt", "cuda sm_90 NVIDIA H200", (1, 8))
    assert spec.check["passed"] and spec.companions == {}
    assert sorted(file.name for file in output.parent.iterdir()) == ["x.engine", "x.engine.json"]
    assert len(tensorrt.built) == 1
    crops = np.random.default_rng(0).integers(0, 256, (3, *spec.input_hw, 3), dtype=np.uint8)
    found = open_backend(output, device="cuda").run(crops)
    expected = open_backend(tiny, mode="float32", device="cpu").run(crops)
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-3)
