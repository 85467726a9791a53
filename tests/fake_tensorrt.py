"""A stand-in for the `tensorrt` package: an engine file of it holds the ONNX graph, which ONNX Runtime runs on the CPU.

It has the names and signatures of TensorRT 10 that this project uses, and refuses what the real one refuses, as far as
its documentation says so. What it cannot show is whether a GPU does the same.
"""

import ctypes
import enum
import sys
from contextlib import nullcontext
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

MAGIC = b"fake engine\n"
NUMPY_TYPES = {"UINT8": np.uint8, "FLOAT": np.float32, "INT64": np.int64}
ONNX_TYPES = {"tensor(uint8)": "UINT8", "tensor(float)": "FLOAT", "tensor(int64)": "INT64"}


class Severity(enum.IntEnum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class ILogger:
    Severity = Severity

    def __init__(self) -> None:
        self.ready = True


class DataType(enum.Enum):
    FLOAT, HALF, BF16, INT8, INT32, INT64, BOOL, UINT8 = range(8)


class TensorIOMode(enum.Enum):
    NONE, INPUT, OUTPUT = range(3)


class NetworkDefinitionCreationFlag(enum.IntEnum):
    EXPLICIT_BATCH, STRONGLY_TYPED = range(2)


class BuilderFlag(enum.Enum):
    TF32, REFIT, VERSION_COMPATIBLE = range(3)


class MemoryPoolType(enum.Enum):
    WORKSPACE, TACTIC_SHARED_MEMORY = range(2)


class Builder:
    def __init__(self, logger: ILogger) -> None:
        assert logger.ready, "the base class has to be initialised"
        self.logger = logger

    def create_network(self, flags: int = 0) -> SimpleNamespace:
        assert flags == 1 << int(NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        return SimpleNamespace(onnx=None)

    def create_builder_config(self) -> "Settings":
        return Settings()

    def create_optimization_profile(self) -> "Profile":
        return Profile()

    def build_serialized_network(self, network: SimpleNamespace, settings: "Settings") -> bytes | None:
        module.built.append(settings)
        if module.fails:
            self.logger.log(Severity.WARNING, "a warning")
            self.logger.log(Severity.ERROR, module.fails)
            return None
        least, _, most = settings.profiles[0].shapes["pixels"]
        return MAGIC + f"{least[0]} {most[0]}\n".encode() + network.onnx


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple] = {}

    def set_shape(self, name: str, least: tuple, best: tuple, most: tuple) -> None:
        self.shapes[name] = (least, best, most)


class Settings:
    def __init__(self) -> None:
        self.flags = {BuilderFlag.TF32}
        self.profiles: list[Profile] = []
        self.pools: dict[MemoryPoolType, int] = {}
        self.timing = None

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        self.pools[pool] = size

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags.discard(flag)

    def add_optimization_profile(self, profile: Profile) -> int:
        sizes = [shape[0] for shape in profile.shapes["pixels"]]
        if sizes != sorted(sizes):
            return -1
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, data: bytes) -> SimpleNamespace:
        return SimpleNamespace(serialize=lambda: data + b"timing")

    def set_timing_cache(self, cache: SimpleNamespace, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.timing = cache
        return True

    def get_timing_cache(self) -> SimpleNamespace:
        return self.timing


class OnnxParser:
    def __init__(self, network: SimpleNamespace, logger: ILogger) -> None:
        self.network = network
        self.num_errors = 0

    def parse_from_file(self, path: str) -> bool:
        import onnx

        graph = onnx.load(path).graph
        readers = [node for node in graph.node if "pixels" in node.input]
        if any(node.op_type != "Cast" for node in readers):  # as the real one says it
            self.num_errors = 1
            return False
        with open(path, "rb") as file:
            self.network.onnx = file.read()
        return True

    def get_error(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(
            desc=lambda: "UINT8 is not supported\nmore of it", node_name=lambda: "network/Transpose_1"
        )


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, data: bytes) -> "Engine | None":
        module.opened += 1
        if not data.startswith(MAGIC):
            self.logger.log(Severity.ERROR, "magic tag does not match")
            return None
        return Engine(*data.removeprefix(MAGIC).split(b"\n", 1))


class Engine:
    def __init__(self, sizes: bytes, onnx: bytes) -> None:
        import onnxruntime

        self.least, self.most = map(int, sizes.split())
        self.session = onnxruntime.InferenceSession(onnx)
        self.values = {value.name: value for value in (*self.session.get_inputs(), *self.session.get_outputs())}
        self.inputs = [value.name for value in self.session.get_inputs()]
        self.num_io_tensors = len(self.values)
        self.num_optimization_profiles = 1

    def get_tensor_name(self, index: int) -> str:
        return list(self.values)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType[ONNX_TYPES[self.values[name].type]]

    def get_tensor_shape(self, name: str) -> tuple:
        return tuple(-1 if isinstance(side, str) else side for side in self.values[name].shape)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple]:
        rest = self.get_tensor_shape(name)[1:]
        return [(self.least, *rest), (self.least, *rest), (self.most, *rest)]

    def create_execution_context(self) -> "Context":
        module.contexts += 1
        return Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.shape: tuple = ()
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple) -> bool:
        self.shape = shape
        return self.engine.least <= shape[0] <= self.engine.most

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name in self.engine.values

    def execute_async_v3(self, stream: int) -> bool:
        if module.breaks:
            return False
        (given,) = self.engine.inputs
        outputs = self.engine.session.run(None, {given: self._array(given, self.shape).copy()})
        for value, found in zip(self.engine.session.get_outputs(), outputs, strict=True):
            self._array(value.name, found.shape)[...] = found
        return True

    def _array(self, name: str, shape: tuple) -> np.ndarray:
        kind = NUMPY_TYPES[self.engine.get_tensor_dtype(name).name]
        count = int(np.prod(shape)) * np.dtype(kind).itemsize
        memory = (ctypes.c_uint8 * count).from_address(self.addresses[name])
        return np.frombuffer(memory, kind).reshape(shape)


def fresh() -> ModuleType:
    """The module as new: `built` lists what was built with which settings, `fails` and `breaks` make it fail."""
    for name, value in {"built": [], "opened": 0, "contexts": 0, "fails": "", "breaks": False}.items():
        setattr(module, name, value)
    module.__version__ = "10.13.3.9"
    return module


module = ModuleType("tensorrt")
module.__spec__ = ModuleSpec("tensorrt", None)
for thing in (ILogger, DataType, TensorIOMode, NetworkDefinitionCreationFlag, BuilderFlag, MemoryPoolType):
    setattr(module, thing.__name__, thing)
for thing in (Builder, OnnxParser, Runtime):
    setattr(module, thing.__name__, thing)

TAG = "cuda sm_90 NVIDIA H200"


def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the CPU taken for a GPU where TensorRT files are built and opened."""
    import export.pipeline
    import export.to_tensorrt
    import lite.backends.devices
    import lite.backends.tensorrt_backend

    cpu = torch.device("cpu")
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    for place in (export.to_tensorrt, lite.backends.tensorrt_backend):
        monkeypatch.setattr(place, "on_gpu", lambda device: nullcontext())
    monkeypatch.setattr(lite.backends.devices, "device_tag", lambda device, with_name=False: TAG)
    monkeypatch.setattr(export.to_tensorrt, "device_tag", lambda device, with_name=False: TAG)
    monkeypatch.setattr(export.to_tensorrt, "check_ready", lambda config: cpu)
    monkeypatch.setattr(export.pipeline, "choose_device", lambda device: cpu)
    monkeypatch.setattr(export.to_tensorrt, "memory_of", lambda device: 40 * 2**30)
    monkeypatch.setattr(lite.backends.tensorrt_backend, "choose_gpu", lambda device: cpu)
