"""`hpe-lite bench model`: crops a second of a whole pixel graph, as a share of what the machine can multiply.

A rate in crops a second says as much about the machine, and about what else it is doing, as about the file. So the
machine's own rate is measured in the same minute, in turns with the graph: one matrix product of the shape and dtype
the network spends most of its operations on. 100 % would be a network that is nothing but such products.
"""

import contextlib
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from lite.artifact import ArtifactSpec
from lite.backends import open_backend
from lite.backends.base import Backend
from lite.backends.devices import has_fast_bfloat16
from lite.config import BenchModelConfig
from lite.engine.matrix_rate import MatrixElsewhere, product
from lite.engine.plan import usable_cores
from lite.errors import ConfigError

LEAST_ROUNDS = 3
# One turn lasts at least this long; a shorter call is repeated within it.
TURN_S = 0.05
GROUP_S = 0.005


def bench_model(config: BenchModelConfig) -> int:
    """Measure and print; returns 0.

    Raises:
        HpeLiteError: the model cannot be opened, or does not accept the batch size.
    """
    if config.checkpoints is not None:
        os.environ["HPE_LITE_CHECKPOINTS"] = config.checkpoints
    backend = open_backend(
        config.model,
        backend=config.backend,
        device=config.device,
        mode=config.mode,
        trust=config.trust,
        flip_test=config.flip_test,
        threads=config.threads,
    )
    most = backend.spec.batch_range[1]
    if max(config.batch_sizes) > most:
        raise ConfigError(
            f"batch_size: {config.model} takes at most {most} crops at once, asked for {config.batch_size}"
        )
    report = measure(backend, config.batch_sizes, config.seconds)
    backend.close()
    print(json.dumps(report, indent=2) if config.json else table(report))
    return 0


def measure(backend: Backend, batch_sizes: list[int], seconds: float) -> dict[str, Any]:
    """The report.

    Returns:
        `model`, `runs` (the backend's own line), `format`, `mode`, `device`, `threads`, `gflop_per_crop`; `batches`:
        for each size `batch_s` and `batch_p90_s`, `crops_per_s`, `matrix` and `matrix_tflops` (the machine),
        `tflops` and `share` (the graph, and what part of the machine's rate that is), `decode_share` (of the graph's
        time, eager networks only); `peak_memory_mb` of the whole process, on CUDA of torch's allocator. What cannot be
        told is None.
    """
    spec = backend.spec
    return {
        "model": spec.model,
        "runs": backend.describe,
        "format": spec.format,
        "mode": spec.mode,
        "device": backend.device,
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "gflop_per_crop": None if spec.flops is None else spec.flops / 1e9,
        "batches": [_one_size(backend, size, seconds) for size in batch_sizes],
        "peak_memory_mb": _peak_memory_mb(backend.device),
    }


def matrix_dtype(mode: str, device: torch.device) -> torch.dtype:
    """What the machine's rate is measured in: that of the mode; for int8, and on the CPU for float16, what is quickest
    of those in which torch multiplies everywhere (bfloat16 where the hardware has it, else float32)."""
    if mode == "float16" and device.type != "cpu":
        return torch.float16
    return torch.float32 if mode == "float32" or not has_fast_bfloat16(device) else torch.bfloat16


def matrix_shape(spec: ArtifactSpec, size: int) -> tuple[int, int, int] | None:
    """Rows, inner size and columns of the product a batch of `size` crops is compared with; None if the spec does not
    say."""
    if spec.trunk_matrix is None or spec.flops is None:
        return None
    rows, inner, columns = spec.trunk_matrix
    return size * rows, inner, columns


def _one_size(backend: Backend, size: int, seconds: float) -> dict[str, Any]:
    spec, device = backend.spec, torch.device(backend.device)
    pixels = np.random.default_rng(0).integers(0, 256, (size, *spec.input_hw, 3), dtype=np.uint8)
    shape, dtype = matrix_shape(spec, size), matrix_dtype(spec.mode, device)
    decoding = backend.decoding(pixels) if hasattr(backend, "decoding") else None
    with contextlib.ExitStack() as stack:
        turns: dict[str, Turn | MatrixElsewhere] = {}
        if shape is not None and device.type == "cpu":
            name = str(dtype).removeprefix("torch.")
            turns["matrix"] = stack.enter_context(MatrixElsewhere(shape, name, torch.get_num_threads(), TURN_S))
        elif shape is not None:
            turns["matrix"] = Turn(product(shape, dtype, device), device, seconds)
        turns["graph"] = Turn(lambda: backend.run(pixels), device, seconds)
        if decoding is not None:
            turns["decode"] = Turn(decoding, device, seconds)
        started, rounds = time.perf_counter(), 0
        while rounds < LEAST_ROUNDS or time.perf_counter() - started < seconds:
            rounds += 1
            for turn in turns.values():
                if not turn.slow:
                    turn()
    batch_s = turns["graph"].median()
    report = {
        "batch_size": size,
        "batch_s": batch_s,
        "batch_p90_s": float(np.percentile(turns["graph"].seconds, 90)),
        "calls": len(turns["graph"].seconds),
        "crops_per_s": size / batch_s,
        "matrix": None, "matrix_dtype": None, "matrix_tflops": None, "tflops": None, "share": None,
        "decode_share": turns["decode"].median() / batch_s if decoding else None,
    }  # fmt: skip
    if shape is not None:
        m, k, n = shape
        machine = 2 * m * k * n / turns["matrix"].median() / 1e12
        tflops = size * spec.flops / batch_s / 1e12
        report |= {"matrix": [m, k, n], "matrix_dtype": str(dtype).removeprefix("torch."), "matrix_tflops": machine}
        report |= {"tflops": tflops, "share": tflops / machine}
    return report


class Turn:
    """Something that takes turns being timed; `seconds` are those of its calls, a turn's worth of them at a time.

    The first call is not counted, since runtimes compile, allocate and choose kernels in it, unless it is `slow`:
    longer than the whole measurement was meant to be. Then it is the only one. The calls of a turn are timed one by
    one: the threads of one runtime wake up while those of the other are still busy waiting, and the first call after a
    change can take a hundred times as long as the rest.
    """

    def __init__(self, call: Callable[[], object], device: torch.device, most_s: float = float("inf")) -> None:
        self.call, self.device = call, device
        first = self._timed(1)
        self.slow = first > max(most_s, TURN_S)
        self.seconds: list[float] = [first] if self.slow else []
        # On CUDA a call returns before it is done, and waiting for each would add a fixed time: so several in a row.
        self.calls = 1 if device.type == "cpu" or self.slow else max(1, round(GROUP_S / self._timed(1)))

    def __call__(self) -> None:
        started = time.perf_counter()
        self.seconds.append(self._timed(self.calls))
        while time.perf_counter() - started < TURN_S:
            self.seconds.append(self._timed(self.calls))

    def _timed(self, calls: int) -> float:
        started = time.perf_counter()
        for _ in range(calls):
            self.call()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return (time.perf_counter() - started) / calls

    def median(self) -> float:
        return statistics.median(self.seconds)


def _peak_memory_mb(device: str) -> float:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 1e6
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def table(report: dict[str, Any]) -> str:
    """The report for people to read."""
    work = "" if report["gflop_per_crop"] is None else f", {report['gflop_per_crop']:.4g} GFLOP a crop"
    lines = [f"{report['runs']}, {report['threads']} threads{work}, peak memory {report['peak_memory_mb']:.0f} MB"]
    for one in report["batches"]:
        line = (
            f"  batch {one['batch_size']:<3} {one['crops_per_s']:9.2f} crops/s  "
            f"{1000 * one['batch_s']:9.2f} ms (p90 {1000 * one['batch_p90_s']:.2f})"
        )
        if one["share"] is not None:
            shape = " x ".join(map(str, one["matrix"]))
            line += (
                f"  {one['tflops']:.3f} TFLOP/s, {100 * one['share']:.1f} % of the machine's "
                f"{one['matrix_tflops']:.3f} ({shape} {one['matrix_dtype']})"
            )
        if one["decode_share"] is not None:
            line += f"  decode {100 * one['decode_share']:.2f} %"
        lines.append(line)
    if any(one["share"] is None for one in report["batches"]):
        lines.append("  no share of the machine's rate: the file does not say what it multiplies; export it again")
    return "\n".join(lines)
