"""A `.onnx` file written by `hpe-lite export`, run by ONNX Runtime on the processor, with CUDA, or with TensorRT."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lite.artifact import ArtifactSpec, read_spec
from lite.backends.artifact_file import check_request, input_sides, output_sides
from lite.backends.base import check_pixels, in_words
from lite.backends.onnx_file import vet_onnx
from lite.errors import ArtifactError, ConfigError, MissingExtraError, UnsafeFileError, first_line
from lite.network import LARGEST_ASPECT, any_size, empty_outputs

# What `open(provider=...)` may be -> ONNX Runtime's name and what people read.
PROVIDERS = {
    "": ("CPUExecutionProvider", "ONNX Runtime"),
    "cuda": ("CUDAExecutionProvider", "ONNX Runtime, CUDA"),
    "tensorrt": ("TensorrtExecutionProvider", "ONNX Runtime, TensorRT"),
}
# Modes that ONNX Runtime has operators for on the processor. float16 is stored as such and computed in float32.
CPU_MODES = ("float32", "float16", "int8")
HEAVY = ("Conv", "ConvTranspose", "MatMul", "Gemm")  # where the work is: must run on the provider asked for
TENSORRT_WORKSPACE = 8 << 30  # bytes


class OnnxRuntimeBackend:
    """See `lite.backends.base.Backend`."""

    def __init__(self, session: Any, spec: ArtifactSpec, device: str, kind: str) -> None:
        self.session = session
        self.spec = spec
        self.device = device
        self.describe = f"{spec.model}, {kind}, {spec.mode} on {device}"
        self.names = [output.name for output in spec.outputs]

    def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs of a batch of (B, h, w, 3) uint8 RGB crops."""
        check_pixels(self.spec, pixels)
        if len(pixels) == 0:
            return empty_outputs(self.spec)
        with in_words(self.spec, "ONNX Runtime", len(pixels)):
            return dict(zip(self.names, self._outputs(np.ascontiguousarray(pixels))))

    def _outputs(self, pixels: np.ndarray) -> list[np.ndarray]:
        if self.device == "cpu":
            return self.session.run(self.names, {"pixels": pixels})
        # The runtime copies crops to the device and coordinates back itself. Not run on hardware.
        binding = self.session.io_binding()
        binding.bind_cpu_input("pixels", pixels)
        for name in self.names:
            binding.bind_output(name, "cpu")
        self.session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()

    def close(self) -> None:
        """Drop the session."""
        del self.session


def open(
    model: str | Path,
    *,
    device: str = "auto",
    mode: str = "auto",
    trust: bool = False,
    flip_test: bool | None = None,
    threads: int | None = None,
    config: str | Path | None = None,
    provider: str | None = None,
) -> OnnxRuntimeBackend:
    """Vet and load an exported file; see `lite.backends.open_backend` for arguments and errors.

    Args:
        provider: None for the processor, "cuda" or "tensorrt". One that cannot do the work is an error: nothing falls
            back to the processor in silence.
    """
    path = Path(model)
    spec = read_spec(path)
    check_request(spec, path, ("onnx",), mode, flip_test)
    target = _target(device, provider or "")
    if target == "cpu":
        check_cpu_mode(spec.mode, path.name)
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("onnxruntime", "cpu", "the backend onnxruntime") from None
    wanted, kind = PROVIDERS[provider or ""]
    if wanted not in onnxruntime.get_available_providers():
        raise MissingExtraError("onnxruntime-gpu", "cuda", f"the backend onnxruntime-{provider}")
    source = vet_onnx(path, spec)
    chain = providers(spec, provider or "", target)
    if provider == "tensorrt":
        _make_private(tensorrt_cache())
    if threads is not None:
        torch.set_num_threads(threads)  # for whoever asks how many this process uses, and networks beside this one
    try:
        session = onnxruntime.InferenceSession(source, _options(onnxruntime, threads, provider or ""), chain)
    except Exception as problem:  # the runtime has a class of its own for each status
        raise ArtifactError(
            f"{path}: ONNX Runtime {onnxruntime.__version__} cannot load it ({first_line(problem)[:300]}); update "
            "onnxruntime, or export the model again in another mode"
        ) from None
    session.disable_fallback()  # a failing run would be repeated on the processor
    _check_provider(session, wanted, path)
    _check_session(session, spec, path)
    return OnnxRuntimeBackend(session, spec, target, kind)


def check_cpu_mode(mode: str, name: str) -> None:
    """Whether a file of this name and mode can run without a GPU.

    Raises:
        ConfigError: it cannot.
    """
    if mode not in CPU_MODES:
        raise ConfigError(
            f"backend: ONNX Runtime computes {', '.join(CPU_MODES)} on the processor, {name} is {mode}; "
            "use backend openvino (pip install 'hpe-lite[cpu]'), or export the model in another mode"
        )


def providers(spec: ArtifactSpec, provider: str, device: str) -> list[tuple[str, dict[str, str]]]:
    """Execution providers in order of preference, with their options.

    The processor comes last for the arithmetic of shapes, which CUDA leaves to it; `_check_provider` refuses more.
    """
    chain: list[tuple[str, dict[str, str]]] = [("CPUExecutionProvider", {})]
    if provider in ("cuda", "tensorrt"):
        index = device.partition(":")[2] or "0"
        chain.insert(0, ("CUDAExecutionProvider", {"device_id": index, "use_tf32": "0"}))
    if provider == "tensorrt":
        height, width = spec.input_hw
        least, most = spec.batch_range
        cache = tensorrt_cache()
        larger = LARGEST_ASPECT if any_size(spec) else 1
        shapes = {
            "min": (least, height, width),
            "opt": (min(8, most), height, width),
            "max": (most, height * larger, width * larger),
        }
        profile = {f"trt_profile_{name}_shapes": f"pixels:{n}x{h}x{w}x3" for name, (n, h, w) in shapes.items()}
        # Without precision flags the network is strongly typed: each tensor keeps the type it has in the file.
        options = {
            "device_id": index,
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(cache),
            "trt_engine_cache_prefix": str(spec.sha256)[:16],  # another file of the same name is another engine
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(cache),
            "trt_max_workspace_size": str(TENSORRT_WORKSPACE),
            **profile,
        }
        chain.insert(0, ("TensorrtExecutionProvider", options))
    return chain


def tensorrt_cache() -> Path:
    """Where ONNX Runtime keeps the engine files that TensorRT built for it."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "hpe-lite" / "onnxruntime-tensorrt"


def _make_private(folder: Path) -> None:
    """A folder only the user can write into: ONNX Runtime runs the machine code it finds there.

    Raises:
        UnsafeFileError: others could have written into it.
        ConfigError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = folder.stat()
    except OSError as problem:
        raise ConfigError(
            f"backend: expected a folder for TensorRT's files at {folder} ({problem.strerror}); set XDG_CACHE_HOME"
        ) from None
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o022):
        raise UnsafeFileError(
            f"{folder}: others can write into this folder of machine code; delete it, or run chmod go-w on it"
        )


def _target(device: str, provider: str) -> str:
    """Where it runs: the provider decides, `device` must agree."""
    if provider not in PROVIDERS:
        raise ConfigError(f"provider: expected one of {', '.join(filter(None, PROVIDERS))}, found {provider!r}")
    kind, _, index = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and not (kind == "cuda" and index.isdecimal())):
        raise ConfigError(f"device: expected auto, cpu, cuda or cuda:N, found {device!r}")
    if provider == "" and kind == "cuda":
        raise ConfigError("backend: onnxruntime runs on the processor, asked for cuda; use onnxruntime-cuda")
    if provider and kind == "cpu":
        raise ConfigError(f"backend: onnxruntime-{provider} runs on a GPU, asked for cpu; use onnxruntime")
    return f"cuda:{index or 0}" if provider else "cpu"


def _options(onnxruntime: Any, threads: int | None, provider: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors, which are raised as well
    # Its own format is known by four letters that an ONNX file may hold too, and would not be what was looked through.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.inter_op_num_threads = 1
    # Waiting threads that spin take the cores from whatever runs beside the session: other sessions, reading, writing.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if provider:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options


def _check_provider(session: Any, wanted: str, path: Path) -> None:
    """The provider asked for must be there and have the heavy operators.

    Raises:
        ArtifactError: it is not, or has not.
    """
    there = session.get_providers()
    if wanted not in there:
        raise ArtifactError(
            f"{path}: {wanted} was asked for and could not start, ONNX Runtime uses {', '.join(there)}; "
            "check the driver and its libraries, or use another backend"
        )
    if wanted == "CPUExecutionProvider":
        return
    elsewhere = sorted(
        {
            node.op_type
            for part in session.get_provider_graph_assignment_info()
            if part.ep_name == "CPUExecutionProvider"
            for node in part.get_nodes()
            if node.op_type in HEAVY
        }
    )
    if elsewhere:
        raise ArtifactError(
            f"{path}: {wanted} cannot compute {', '.join(elsewhere)} of this file, which would run on the processor; "
            "use another backend or export the model in another mode"
        )


def _check_session(session: Any, spec: ArtifactSpec, path: Path) -> None:
    """What the runtime understood must be what the JSON says."""
    kinds = {"float32": "tensor(float)", "int64": "tensor(int64)", "uint8": "tensor(uint8)"}
    found = [
        (one.name, one.type, tuple(side if isinstance(side, int) else None for side in one.shape[1:]))
        for one in (*session.get_inputs(), *session.get_outputs())
    ]
    wanted = [("pixels", kinds["uint8"], input_sides(spec))]
    wanted += [(one.name, kinds.get(one.dtype), output_sides(one)) for one in spec.outputs]
    if found != wanted:
        raise ArtifactError(f"{path}: its JSON says {wanted}, ONNX Runtime sees {found}; export the model again")
