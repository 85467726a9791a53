"""An OpenVINO or ONNX file written by `hpe-lite export`, run by OpenVINO on the processor.

OpenVINO computes in whatever precision its hint says, not in that of the file, and on processors with bfloat16 its own
choice is bfloat16 even for float32 files. So the hint is always set: float32 for float32 and int8 files, and for
reduced ones theirs, but for the network alone (`lite.backends.openvino_parts`). A precision the processor does not have
in hardware is computed in float32 from the reduced weights, and `describe` says so.
"""

import io
import math
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch

from lite.artifact import ArtifactSpec, read_spec
from lite.backends.artifact_file import check_request, check_same, check_version, input_sides, output_sides
from lite.backends.base import check_pixels, in_words
from lite.backends.devices import choose_device
from lite.backends.openvino_parts import NETWORK, split, whole
from lite.errors import ArtifactError, ConfigError, UnsafeFileError
from lite.network import any_size, empty_outputs

# Mode -> OpenVINO's name of the precision, and of the capability a processor needs for it.
REDUCED = {"bfloat16": ("bf16", "BF16"), "float16": ("f16", "FP16")}
WEIGHT_MODES = {"bf16": "bfloat16", "f16": "float16", "i8": "int8"}
NUMPY_NAMES = {"f32": "float32", "i64": "int64"}
# Bytes of weights up to which so many batch sizes are compiled for on their own; each takes about that memory again.
MOST_FIXED = ((2**25, 8), (2**28, 3), (2**30, 1))
LARGEST_TENSOR = 2**31  # numbers for one crop; attention of Sapiens-2b written out has 0.3e9


class OpenVINOBackend:
    """See `lite.backends.base.Backend`.

    `run` may be called from several threads. How many processor threads a run takes is torch's setting at the time:
    when it is lower than it was at `open`, the processor is divided and that many runs go side by side.

    The model is compiled for any batch first. Once so much time went into one batch size as compiling took, it is
    compiled for that size too: networks of many small layers then take two thirds of the time (measured: Lite-HRNet,
    6.1 instead of 10.1 ms a crop), transformers a few hundredths less.

    Args:
        core: an `openvino.Core`.
        model: what `core` read. weights: memory the model lies in, kept as long as the model.
        precision: of the network, as OpenVINO names it.
        spec: its JSON.
        kind: what `describe` says between the model's name and the device.
    """

    def __init__(self, core: Any, model: Any, weights: Any, precision: str, spec: ArtifactSpec, kind: str) -> None:
        self.spec, self.device = spec, "cpu"
        self.describe = f"{spec.model}, {kind} on cpu"
        self._compile = partial(_Compiled, core, model, weights, precision)
        self._threads = torch.get_num_threads()
        size = sum(node.get_byte_size() for node in model.get_ops() if _is(node, "Constant"))
        fixable = next((count for bytes_, count in MOST_FIXED if size <= bytes_), 0)
        self._most_fixed = 0 if any_size(spec) else fixable
        self._lock = threading.Lock()
        self._compiled: dict[tuple[int, int | None], _Compiled] = {}
        self._spent: Counter[tuple[int, int]] = Counter()  # seconds per threads and batch
        started = time.perf_counter()
        self._choose(self._threads, None)
        self._compile_s = time.perf_counter() - started

    def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs of a batch of (B, h, w, 3) uint8 RGB crops."""
        check_pixels(self.spec, pixels)
        if len(pixels) == 0:
            return empty_outputs(self.spec)
        key = (torch.get_num_threads(), len(pixels))
        with in_words(self.spec, "OpenVINO", len(pixels)):
            compiled = self._choose(*key)
            started = time.perf_counter()
            made = compiled.run(np.ascontiguousarray(pixels))
        with self._lock:
            self._spent[key] += time.perf_counter() - started
        return {output.name: made[output.name] for output in self.spec.outputs}

    def close(self) -> None:
        """Drop the compiled models."""
        self._compiled.clear()
        del self._compile

    def _choose(self, threads: int, batch: int | None) -> "_Compiled":
        """The model compiled for runs of so many threads each, and for this batch if that is worth it and possible."""
        with self._lock:
            fixed = sum(key[1] is not None for key in self._compiled)
            worth = batch is not None and self._spent[threads, batch] > self._compile_s and fixed < self._most_fixed
            at_once = max(1, self._threads // threads)
            if worth and (threads, batch) not in self._compiled:
                try:
                    self._compiled[threads, batch] = self._compile(threads, at_once, batch)
                except (RuntimeError, ValueError, MemoryError):  # out of memory, or a graph it cannot take so
                    self._most_fixed = 0  # the model for any batch does it; nothing else is tried again
            if (threads, batch) not in self._compiled:
                batch = None
            if (threads, batch) not in self._compiled:
                self._compiled[threads, batch] = self._compile(threads, at_once, batch)
            return self._compiled[threads, batch]


class _Compiled:
    """A model compiled for `at_once` runs side by side with `threads` threads each; further runs wait.

    Args:
        batch: the only one it can be run with; None for any.
    """

    def __init__(
        self, core: Any, model: Any, weights: Any, precision: str, threads: int, at_once: int, batch: int | None
    ) -> None:
        if batch is not None:
            model = model.clone()
            model.reshape([batch, *model.input(0).get_partial_shape()[1:]])
        self._parts = whole(model) if precision == "f32" else split(model)
        self._idle: SimpleQueue[list[Any]] = SimpleQueue()
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": at_once,
            "INFERENCE_NUM_THREADS": at_once * threads,
            "ENABLE_CPU_PINNING": False,  # two processes would be tied to the same cores
        }
        compiled = []
        for number, part in enumerate(self._parts):
            kind = precision if number == NETWORK else "f32"
            compiled.append(core.compile_model(part.model, "CPU", {**settings, "INFERENCE_PRECISION_HINT": kind}))
        for _ in range(at_once):
            self._idle.put([model.create_infer_request() for model in compiled])
        self._weights = weights  # last, so that it is let go last

    def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Everything the last part makes, copied."""
        from openvino import Tensor

        requests = self._idle.get()
        try:
            tensors = {"pixels": Tensor(pixels, shared_memory=True)}
            for part, request in zip(self._parts, requests):
                for i, name in enumerate(part.reads):
                    request.set_input_tensor(i, tensors[name])
                request.infer()
                tensors |= {name: request.get_output_tensor(i) for i, name in enumerate(part.makes)}
            return {name: tensors[name].data.copy() for name in self._parts[-1].makes}
        finally:
            self._idle.put(requests)


def open(
    model: str | Path,
    *,
    device: str = "auto",
    mode: str = "auto",
    trust: bool = False,
    flip_test: bool | None = None,
    threads: int | None = None,
    config: str | Path | None = None,
) -> OpenVINOBackend:
    """Vet, load and compile an exported file; see `lite.backends.open_backend` for arguments and errors."""
    import openvino

    path = Path(model)
    spec = read_spec(path)
    check_request(spec, path, ("onnx",) if path.suffix.lower() == ".onnx" else ("openvino",), mode, flip_test)
    check_version(spec, path, "openvino", openvino.__version__)
    if device != "auto" and choose_device(device).type != "cpu":
        raise ConfigError(f"device: OpenVINO files run on cpu, asked for {device}; use cpu or another format")
    if threads is not None:
        torch.set_num_threads(threads)
    core = openvino.Core()
    try:
        graph, weights = _read(core, path, spec)
        _check_model(graph, spec, path)
        hint, capability = REDUCED.get(spec.mode, ("f32", "FP32"))
        kind = f"openvino {spec.mode}"
        if capability not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            kind += f" computed in float32 (no {spec.mode} on this processor)"
            hint = "f32"
        return OpenVINOBackend(core, graph, weights, hint, spec, kind)
    except (RuntimeError, ValueError) as problem:  # all that OpenVINO raises, and `split`
        said = [line for line in str(problem).splitlines() if line.strip() and not line.startswith("Exception from")]
        first = said[0][:200] if said else type(problem).__name__
        raise ArtifactError(f"{path}: OpenVINO cannot use it ({first}); export the model again") from problem


def _read(core: Any, path: Path, spec: ArtifactSpec) -> tuple[Any, Any]:
    """The vetted model, and what must be kept beside it."""
    if spec.format == "onnx":
        from openvino.frontend import FrontEndManager

        from lite.backends.onnx_file import vet_onnx

        # Not `core.read_model`, which takes a file for what it finds in it first: one that is ONNX to us could be
        # OpenVINO's XML or another format to it.
        reader, source = FrontEndManager().load_by_framework("onnx"), vet_onnx(path, spec)
        return reader.convert(reader.load(io.BytesIO(source) if isinstance(source, bytes) else source)), None
    from lite.backends.openvino_file import read_model

    return read_model(core, path, spec)


def _check_model(model: Any, spec: ArtifactSpec, path: Path) -> None:
    """The JSON must describe this model: its input, batch range, mode and outputs. No tensor may be absurdly large."""
    kinds = {node.get_output_element_type(0).get_type_name() for node in model.get_ops() if _is(node, "Constant")}
    kinds |= {"i8" for node in model.get_ops() if _is(node, "FakeQuantize")}
    stored = next((name for kind, name in reversed(WEIGHT_MODES.items()) if kind in kinds), "float32")
    found = {"input": [_described(value) for value in model.inputs], "mode": stored}
    found["outputs"] = [_described(value) for value in model.outputs]
    batch = model.inputs[0].get_partial_shape()[0] if model.inputs else None
    wanted = {
        "input": [("pixels", "u8", input_sides(spec))],
        "mode": spec.mode,
        "outputs": [(one.name, one.dtype, output_sides(one)) for one in spec.outputs],
    }
    if spec.format == "openvino":
        wanted["batch range"] = tuple(spec.batch_range)
        found["batch range"] = None if batch is None else (batch.get_min_length(), batch.get_max_length())
    check_same(found, wanted, path)
    for node in model.get_ops():
        for output in node.outputs():
            dims = [dim.get_length() for dim in output.get_partial_shape() if dim.is_static]
            if math.prod(dims) > LARGEST_TENSOR:
                raise UnsafeFileError(
                    f"{path}: a tensor of {dims} numbers would fill the memory; export the model again"
                )


def _is(node: Any, kind: str) -> bool:
    return node.get_type_name() == kind


def _described(value: Any) -> tuple[str, str, tuple[int | None, ...]]:
    """Name, dtype and shape of an input or output, without the batch; None for a side that varies."""
    kind = value.get_element_type().get_type_name()
    dims = [dim.get_length() if dim.is_static else None for dim in value.get_partial_shape()]
    return value.get_any_name(), NUMPY_NAMES.get(kind, kind), tuple(dims[1:])
