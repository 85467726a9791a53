"""One step of gpu_check.py: a zoo network with made-up weights run in one way, checked and timed, or the tests.

    python scripts/gpu_trial.py --model vitpose-b-coco17 --runs compiled --mode bfloat16 --result step.json

The result is JSON: `status` (done, failed, not here), `why` when it is not done, `describe`, `check` (the gate's
report), `timed` (for each way of running, what `bench model` says of each batch), `made_s`, `peak_mb`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from export.check import check, reference, with_rounding
from export.config import SUFFIXES, ExportConfig
from export.crops import calibration_crops, check_crops
from export.pipeline import _describe, _writer
from lite.artifact import write_spec
from lite.backends import open_backend
from lite.backends.base import Backend
from lite.backends.devices import exact_float32
from lite.backends.eager_backend import EagerBackend, build_graph
from lite.backends.fold import fold_batch_norm
from lite.codecs import build_codec
from lite.engine.bench_model import measure
from lite.errors import DeviceMemoryError
from lite.graph import PixelGraph
from lite.models.find import zoo_row
from lite.skeletons import load_skeleton
from scripts.random_weights import settle

ROOT = Path(__file__).resolve().parents[1]
CHECK_CROPS, CHECK_CROPS_LARGE, LARGE_INPUT_PX = 12, 3, 512 * 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="", help="zoo name")
    parser.add_argument("--runs", required=True, help="tests, eager, pt2, compiled, onnxruntime or tensorrt")
    parser.add_argument("--mode", default="")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=1.5, help="time for each batch size")
    parser.add_argument("--result", type=Path, required=True)
    args = parser.parse_args()
    if args.runs == "tests":
        report = run_tests()
    elif (why := not_here(args.runs)) is not None:
        report = {"status": "not here", "why": why}
    else:
        exact_float32()
        with torch.device("cuda"):
            network = zoo_row(args.model).build().eval().requires_grad_(False)
        settle(network, seed=0)
        report = try_out(network, args.runs, args.mode, args.batches, args.seconds)
    args.result.write_text(json.dumps(report), encoding="utf-8")


def run_tests() -> dict[str, Any]:
    """The tests marked gpu; only their files are imported, since others need more libraries."""
    marked = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if "pytest.mark.gpu" in path.read_text()]
    options = ["-q", "-m", "gpu", "-p", "no:cacheprovider", "-o", "filterwarnings=default"]
    command = [sys.executable, "-m", "pytest", *options, *map(str, marked)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    summary = lines[-1] if lines else done.stderr[-200:]
    return {"status": "done" if done.returncode == 0 else "failed", "why": summary, "failed": failed}


def not_here(runs: str) -> str | None:
    """The library or provider that a step needs and this machine lacks."""
    if runs == "tensorrt" and find_spec("tensorrt") is None:
        return "tensorrt is not installed"
    if runs in ("tensorrt", "onnxruntime") and find_spec("onnxscript") is None:
        return "onnxscript is not installed"
    if runs == "onnxruntime":
        if find_spec("onnxruntime") is None:
            return "onnxruntime is not installed"
        import onnxruntime

        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            return "onnxruntime has no CUDA provider"
    return None


def try_out(network: nn.Module, runs: str, mode: str, batches: list[int], seconds: float) -> dict[str, Any]:
    """Check a float32 network, run in one way in one mode on its own device, against itself, and time it."""
    device = next(network.parameters()).device
    spec = network.spec
    large = spec.input_hw[0] * spec.input_hw[1] > LARGE_INPUT_PX
    pixels = check_crops(spec, None, min(CHECK_CROPS_LARGE if large else CHECK_CROPS, max(batches)))
    graph = build_graph(network, mode="float32").to(device)
    expected = reference(There(graph), pixels, mode, np.asarray(load_skeleton(spec.skeleton).oks_sigmas))
    fold_batch_norm(network)
    graph = build_graph(network, mode=mode).to(device)
    expected = with_rounding(expected, There(graph))
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        backend = open_one(graph, runs, batches, Path(folder), device)
        made_s = time.perf_counter() - started
        del graph
        report = check(backend, expected)
        describe = backend.describe
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        timed = {"": time_batches(backend, batches, seconds)}
        peak_mb = torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else None
        if "CUDA graphs up to" in describe:
            backend.use_graphs(0)
            timed["without CUDA graphs"] = time_batches(backend, batches, seconds)
        backend.close()
    status = {"status": "done"} if report["passed"] else {"status": "failed", "why": "; ".join(report["failures"])}
    return {"describe": describe, "made_s": made_s, "check": report, "timed": timed, "peak_mb": peak_mb, **status}


class There:
    """A graph on a GPU as the gate's reference wants it: crops from the CPU, maps back to it, decoded there."""

    def __init__(self, graph: PixelGraph) -> None:
        self.graph, self.spec = graph, graph.spec
        self.codec = build_codec(graph.spec.codec)

    def heatmaps(self, pixels: Tensor) -> Tensor:
        """(B, K, H, W) on the CPU."""
        return self.graph.heatmaps(pixels.to(self.graph.factor.device)).cpu()


def open_one(graph: PixelGraph, runs: str, batches: list[int], folder: Path, device: torch.device) -> Backend:
    """The graph as a backend on a device, by way of a file in `folder` unless it runs eagerly."""
    if runs == "eager":
        return EagerBackend(graph.to(memory_format=torch.channels_last), device, "made-up weights")
    format_name = {"compiled": "pt2", "onnxruntime": "onnx"}.get(runs, runs)
    config = ExportConfig(
        model=graph.spec.model,
        format=format_name,
        mode=graph.spec.mode,
        compile=runs == "compiled",
        device=device.type,
        batch_max=max(2, *batches),
        batch_opt=min(8, max(batches)),
    )
    path = folder / f"x{SUFFIXES[format_name]}"
    written = _writer(format_name)(
        graph, path, config, lambda: check_crops(graph.spec, None, calibration_crops(graph.spec))
    )
    write_spec(path, _describe(graph.spec, path, config, written))
    runtime = "onnxruntime-cuda" if (runs, device.type) == ("onnxruntime", "cuda") else "auto"
    return open_backend(path, backend=runtime, device=device.type, trust=written.native)


def time_batches(backend: Backend, sizes: list[int], seconds: float) -> list[dict[str, Any]]:
    """What `bench model` says of each size; of one that does not fit into memory, why."""
    timed = []
    for size in sizes:
        try:
            timed += measure(backend, [size], seconds)["batches"]
        except DeviceMemoryError as problem:
            timed.append({"batch_size": size, "why": str(problem)})
    return timed


if __name__ == "__main__":
    main()
