"""A pixel graph as a TensorRT engine file: our ONNX, strongly typed, built on the GPU that will run it.

Precision is in the graph (int8: its quantise and dequantise operators), because TensorRT 11 knows no other way and
TensorRT 10 knows this one. Everything before `build` runs and is tested without a GPU.
"""

import hashlib
import tempfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.cuda import device as on_gpu

from export.config import ExportConfig
from export.tensorrt_cache import Batches, Recipe, fetch, keep, timing_name
from export.tensorrt_graph import cast_pixels_first, unsupported
from export.written import Calibration, Written
from lite.artifact import ArtifactSpec, sha256_of
from lite.backends.artifact_file import release
from lite.backends.devices import choose_device, device_tag
from lite.backends.tensorrt_backend import INPUT, complaint, error_log
from lite.errors import ConfigError, MissingExtraError, ModelError
from lite.graph import PixelGraph
from lite.network import LARGEST_ASPECT, any_size

if TYPE_CHECKING:
    from onnx import ModelProto

LEAST_TENSORRT = (10, 0)  # the first with strongly typed networks, bfloat16 and 64-bit outputs
LARGEST_WORKSPACE = 8 * 2**30


def to_tensorrt(graph: PixelGraph, path: Path, config: ExportConfig, calibration: Calibration) -> Written:
    """Write `graph` to `path` for batches of 1 to `config.batch_max`, tuned for `config.batch_opt`.

    Raises:
        MissingExtraError: TensorRT or the ONNX libraries are not installed.
        ConfigError: there is no GPU to build on, or TensorRT is too old.
        ModelError: TensorRT cannot run the graph.
    """
    device = check_ready(config)
    import tensorrt

    from export.to_onnx import to_onnx

    tag = device_tag(device, with_name=True)
    # A folder of its own, so that the ONNX files are not taken for companions of the artifact.
    with tempfile.TemporaryDirectory(prefix=".onnx-", dir=path.parent) as folder:
        onnx_path = Path(folder) / "graph.onnx"
        to_onnx(graph, onnx_path, replace(config, format="onnx", output=None), calibration)
        graph_sha256 = prepare(onnx_path, graph.spec.model)
        recipe = Recipe(
            graph_sha256=graph_sha256,
            device=tag,
            tensorrt=tensorrt.__version__,
            batches=batches(config),
            mode=config.mode,
            workspace=workspace(memory_of(device)),
        )
        data = fetch(f"{recipe.key()}.engine")
        if data is None:
            with on_gpu(device):
                data = build(onnx_path, recipe, graph.spec)
            keep(f"{recipe.key()}.engine", data)
    path.write_bytes(data)
    return Written(versions={"tensorrt": tensorrt.__version__}, device=tag, native=True)


def check_ready(config: ExportConfig) -> torch.device:
    """The GPU to build on; asked before anything that takes long.

    Raises:
        MissingExtraError, ConfigError: see `to_tensorrt`.
    """
    if find_spec("tensorrt") is None:
        raise MissingExtraError("tensorrt", "cuda", "the format tensorrt")
    import tensorrt

    if release(tensorrt.__version__) < LEAST_TENSORRT:
        raise ConfigError(
            f"format: expected TensorRT {'.'.join(map(str, LEAST_TENSORRT))} or newer, found {tensorrt.__version__}; "
            "update tensorrt"
        )
    if not torch.cuda.is_available():
        raise ConfigError(
            "format: a TensorRT engine file is built on the GPU that runs it, torch sees none here; "
            "export on such a machine, or as onnx"
        )
    device = choose_device(config.device)
    if device.type != "cuda":
        raise ConfigError(f"device: a TensorRT engine file is built on a GPU, asked for {config.device}; pass cuda")
    return torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)


def batches(config: ExportConfig) -> Batches:
    """The optimisation profile of a configuration."""
    return Batches(least=1, best=config.batch_opt, most=config.batch_max)


def memory_of(device: torch.device) -> int:
    """Bytes of a GPU's memory."""
    return torch.cuda.get_device_properties(device).total_memory


def workspace(total_memory: int) -> int:
    """Bytes of scratch memory the builder may use: a quarter of the GPU's, at most 8 GiB, in whole MiB."""
    return min(total_memory // 4, LARGEST_WORKSPACE) >> 20 << 20


def prepare(path: Path, model: str) -> str:
    """Rewrite an ONNX file for TensorRT, in place; the hash of the result, with its weights.

    Raises:
        ModelError: an operator, type or attribute that TensorRT's parser refuses, all of them in one sentence.
    """
    import onnx

    graph = onnx.load(path, load_external_data=False)
    if cast_pixels_first(graph):
        onnx.save(graph, path)
    refused = unsupported(graph)
    if refused:
        raise ModelError(f"{model}: TensorRT cannot run {', '.join(refused)} in its graph; export it in another format")
    files = [path, *(path.parent / place for place in _outside(graph))]
    return hashlib.sha256("\n".join(sha256_of(file) for file in files).encode()).hexdigest()


def _outside(graph: "ModelProto") -> list[str]:
    """Names of the files with the weights that do not fit into the ONNX file."""
    tensors = graph.graph.initializer
    return sorted({entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"})


def build(onnx_path: Path, recipe: Recipe, spec: ArtifactSpec) -> bytes:
    """The engine file of an ONNX file.

    Raises:
        ModelError: the parser or the builder gave up; with the first thing they complained of.
    """
    import tensorrt as trt

    log = error_log()
    builder = trt.Builder(log)
    network = builder.create_network(creation_flags(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx_path)):
        errors = [_said(parser.get_error(i)) for i in range(parser.num_errors)] or log.errors
        raise _gave_up(spec.model, "read the graph", errors)
    settings = builder.create_builder_config()
    settings.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, recipe.workspace)
    # On by default; it would round the factors of float32 products to ten bits, in the decode too. As precision is in
    # the graph, a TensorRT without the flag has nothing to turn off.
    if hasattr(trt.BuilderFlag, "TF32"):
        settings.clear_flag(trt.BuilderFlag.TF32)
    profile = builder.create_optimization_profile()
    least, best, most = (
        (n, *spec.input_hw, 3) for n in (recipe.batches.least, recipe.batches.best, recipe.batches.most)
    )
    if any_size(spec):
        most = (most[0], *(side * LARGEST_ASPECT for side in spec.input_hw), 3)
    profile.set_shape(INPUT, least, best, most)
    if settings.add_optimization_profile(profile) < 0:
        raise _gave_up(spec.model, f"take batches of {recipe.batches.least} to {recipe.batches.most}", log.errors)
    timing = timing_name(recipe.device, recipe.tensorrt)
    cache = settings.create_timing_cache(fetch(timing) or b"")
    settings.set_timing_cache(cache, ignore_mismatch=False)
    data = builder.build_serialized_network(network, settings)
    if data is None:
        raise _gave_up(spec.model, "build the file", log.errors)
    keep(timing, bytes(settings.get_timing_cache().serialize()))
    return bytes(data)


def creation_flags(trt: Any) -> int:
    """Strong typing has to be asked for in TensorRT 10; from 11 on there is nothing else and the flag may be gone."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    if flag is None and release(trt.__version__) < (11, 0):
        raise ConfigError(f"format: TensorRT {trt.__version__} has no strongly typed networks; update tensorrt")
    return 0 if flag is None else 1 << int(flag)


def _said(error: Any) -> str:
    """A parser's error with the operator it is about, where it says so."""
    node = error.node_name() if hasattr(error, "node_name") else ""
    return complaint([error.desc()]) + (f" at {node}" if node else "")


def _gave_up(model: str, what: str, errors: list[str]) -> ModelError:
    return ModelError(f"{model}: TensorRT could not {what} ({complaint(errors)}); export it in another format")
