"""A TensorRT engine file written by `hpe-lite export`, run on the GPU it was built on.

Engine files are machine code: one is opened only when its hash is in the user's trust file, or with `--trust`.
"""

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.cuda import device as on_gpu

from lite.artifact import ArtifactSpec, read_spec
from lite.backends.artifact_file import check_hash, check_request, input_sides, open_file, output_sides
from lite.backends.base import check_pixels
from lite.backends.devices import check_built_for, choose_device
from lite.backends.transfer import Transfer
from lite.errors import ArtifactError, ConfigError, MissingExtraError, ModelError, UnsafeFileError
from lite.network import empty_outputs
from lite.trust import is_trusted

INPUT = "pixels"
# TensorRT's names of element types -> ours, for what an engine file may take and give.
DTYPES = {"UINT8": "uint8", "FLOAT": "float32", "INT32": "int32", "INT64": "int64", "BOOL": "bool"}


class TensorrtBackend:
    """See `lite.backends.base.Backend`.

    Args:
        engine: a deserialised engine file that fits `spec`.
        device: the GPU it was deserialised on.
    """

    def __init__(self, engine: Any, spec: ArtifactSpec, device: torch.device) -> None:
        self.spec = spec
        self.device = str(device)
        self.describe = f"{spec.model}, tensorrt {spec.mode} on {device}"
        self._engine = engine
        with on_gpu(device):
            self._context = engine.create_execution_context()
        if self._context is None:
            raise ModelError(f"{spec.model}: TensorRT found no memory on {device} to run it; free some of it")
        self._transfer = Transfer(device)
        self._lock = threading.Lock()  # shapes and addresses are set on the context, one call at a time

    def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs of a batch of (B, h, w, 3) uint8 RGB crops.

        Raises:
            ModelError: crops of another size, or too many for the file; TensorRT gave up.
            DeviceMemoryError: too many for the device's memory.
        """
        check_pixels(self.spec, pixels)
        count = len(pixels)
        if count == 0:
            return empty_outputs(self.spec)
        staged = self._transfer.stage(pixels)
        with self._lock, self._transfer.in_use(self.spec, count):
            given = self._transfer.give(staged)
            outputs = {
                output.name: torch.empty(
                    output.sized(*given.shape[:3]), dtype=getattr(torch, output.dtype), device=given.device
                )
                for output in self.spec.outputs
            }
            done = self._context.set_input_shape(INPUT, tuple(given.shape))
            for name, tensor in {INPUT: given, **outputs}.items():
                done = done and self._context.set_tensor_address(name, tensor.data_ptr())
            if not (done and self._context.execute_async_v3(self._transfer.handle)):
                raise ModelError(f"{self.spec.model}: TensorRT could not run {count} crops; export the model again")
            return self._transfer.take(outputs)

    def close(self) -> None:
        """Drop the context and the engine file's code."""
        del self._context, self._engine


def open(
    model: str | Path,
    *,
    device: str = "auto",
    mode: str = "auto",
    trust: bool = False,
    flip_test: bool | None = None,
    threads: int | None = None,
    config: str | Path | None = None,
) -> TensorrtBackend:
    """Check and load an engine file; see `lite.backends.open_backend` for arguments and errors."""
    try:
        import tensorrt
    except ImportError:
        raise MissingExtraError("tensorrt", "cuda", "the backend tensorrt") from None
    path = Path(model)
    spec = read_spec(path)
    check_request(spec, path, ("tensorrt",), mode, flip_test)
    check_same_version(spec, path, tensorrt.__version__)
    target = choose_gpu(device)
    check_built_for(spec, target, path)
    if threads is not None:
        torch.set_num_threads(threads)
    engine = deserialize(read_trusted(path, spec, trust), path, target)
    check_engine(engine, spec, path)
    return TensorrtBackend(engine, spec, target)


def choose_gpu(device: str) -> torch.device:
    """The GPU asked for, with its number.

    Raises:
        ConfigError: no GPU, or not a GPU.
    """
    target = choose_device(device)
    if target.type != "cuda":
        raise ConfigError(
            f"device: TensorRT engine files run on a GPU, found {target}; export the model as onnx or pt2"
        )
    return torch.device("cuda", torch.cuda.current_device() if target.index is None else target.index)


def check_same_version(spec: ArtifactSpec, path: Path, here: str) -> None:
    """An engine file is for one version of TensorRT, to the last digit.

    Raises:
        ArtifactError: it was built with another.
    """
    built = spec.versions.get("tensorrt")
    if built != here:
        raise ArtifactError(
            f"{path}: built with TensorRT {built or 'of no version'}, this is {here}; install that version or export "
            "the model again"
        )


def read_trusted(path: Path, spec: ArtifactSpec, trust: bool) -> bytes:
    """The file's bytes, once: those that were hashed are those that are run.

    Raises:
        ArtifactError: it cannot be read, or is not the file its JSON was written for.
        UnsafeFileError: this installation did not build it, and `trust` is not given.
    """
    with open_file(path) as file:
        data = file.read()
    check_hash(io.BytesIO(data), spec, path)
    if not trust and not is_trusted(spec.sha256):
        raise UnsafeFileError(
            f"{path}: a TensorRT engine file is machine code and this installation did not build it; export the model "
            "here, or pass --trust if you know where it comes from"
        )
    return data


def deserialize(data: bytes, path: Path, device: torch.device) -> Any:
    """The engine in a file's bytes.

    Raises:
        ArtifactError: TensorRT does not take it; with the first thing it complained of.
    """
    import tensorrt as trt

    log = error_log()
    with on_gpu(device):
        engine = trt.Runtime(log).deserialize_cuda_engine(data)
    if engine is None:
        raise ArtifactError(f"{path}: TensorRT cannot load it ({complaint(log.errors)}); export the model again")
    return engine


def error_log() -> Any:
    """A TensorRT logger that keeps errors, in `errors`, instead of printing them."""
    import tensorrt as trt

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.errors.append(message)

    return Log()


def complaint(errors: list[str]) -> str:
    """The first line of the first error."""
    lines = errors[0].strip().splitlines() if errors else []
    return lines[0].strip() if lines else "it does not say why"


def check_engine(engine: Any, spec: ArtifactSpec, path: Path) -> None:
    """The JSON must describe this engine file: its input, outputs and batch range.

    Raises:
        ArtifactError: it describes another.
    """
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    found = {
        name: (
            engine.get_tensor_mode(name).name.lower(),
            tuple(None if side < 0 else side for side in tuple(engine.get_tensor_shape(name))[1:]),
            DTYPES.get(engine.get_tensor_dtype(name).name, engine.get_tensor_dtype(name).name),
        )
        for name in names
    }
    wanted = {INPUT: ("input", input_sides(spec), spec.input_dtype)}
    wanted |= {output.name: ("output", output_sides(output), output.dtype) for output in spec.outputs}
    for name in dict.fromkeys((*wanted, *found)):
        if found.get(name) != wanted.get(name):
            raise ArtifactError(
                f"{path}: its JSON says {name} is {wanted.get(name, 'not there')}, the file has "
                f"{found.get(name, 'no such tensor')}; export the model again"
            )
    least, _, most = engine.get_tensor_profile_shape(INPUT, 0)
    if (least[0], most[0]) != tuple(spec.batch_range):
        raise ArtifactError(
            f"{path}: its JSON says batches of {spec.batch_range[0]} to {spec.batch_range[1]}, the file takes "
            f"{least[0]} to {most[0]}; export the model again"
        )
