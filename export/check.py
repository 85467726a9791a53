"""The gate: an exported file, run by the backend that will serve it, against the eager float32 network.

Compared are the task's own quantities on real crops, at batch 1, an odd batch, all crops and, unless that takes long,
the largest batch the file accepts. `export.limits` has what may differ. Over a limit, the file is not written under its
final name.

    expected = reference(graph in float32, pixels, mode, sigmas)
    expected = with_rounding(expected, graph in the mode)  # the same network, converted in place: no third copy
    report = check(backend, expected)
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from export.compare import Expected, compare_boxes, compare_poses
from export.compare_maps import compare_classes, compare_labels, compare_people
from export.eight_bits import eight_bits
from export.limits import LIMITS, limits_of, over
from export.stable import clear_labels, stable_peaks
from lite.artifact import ArtifactSpec
from lite.backends.base import Backend
from lite.graph import PixelGraph

FAR = 1e9
LARGEST_RUN_PX = 8 * 2**20  # pixels of the largest batch that is tried: 64 crops of 256 x 192, 20 canvases of 640 x 640
# Task -> how two sets of outputs are compared. `LIMITS` has a row for each of them, with what the function must give.
TASKS: dict[str, Callable[[dict[str, np.ndarray], Expected, int], dict[str, Any]]] = {
    "pose": compare_poses,
    "detect": compare_boxes,
    "segment": compare_labels,
    "classify": compare_classes,
    "pose-bottom-up": compare_people,
}
# A network run eagerly in one of them shows what its rounding does; in int8 by weights and inputs rounded on the way.
EAGER_MODES = ("float16", "bfloat16", "int8")


def reference(graph: PixelGraph, pixels: np.ndarray, mode: str, oks_sigmas: np.ndarray) -> Expected:
    """What the eager float32 graph gives, one crop at a time; `mode` is that of the file to be checked."""
    outputs, heatmaps = _run(graph, pixels)
    expected = Expected(pixels=pixels, outputs=outputs, oks_sigmas=oks_sigmas, heatmaps=heatmaps)
    if graph.spec.task == "segment":
        return replace(expected, stable=clear_labels(outputs["logits"], None, mode))
    return expected if heatmaps is None else replace(expected, stable=_stable(graph, heatmaps, None, mode))


def with_rounding(expected: Expected, graph: PixelGraph) -> Expected:
    """The reference with what rounding in a mode does to this very network, when `graph` can compute in it eagerly.

    Args:
        graph: of the same network, in the mode of the file to be checked.

    Returns:
        `stable` found with the measured change of each heatmap, `rounding` with the quantities of the task.
    """
    if graph.spec.mode not in EAGER_MODES:
        return expected
    with eight_bits(graph.network) if graph.spec.mode == "int8" else nullcontext():
        outputs, heatmaps = _run(graph, expected.pixels)
    if heatmaps is not None:
        stable = _stable(graph, expected.heatmaps, heatmaps, graph.spec.mode)
        expected = replace(expected, stable=stable, heatmaps=None)
    if graph.spec.task == "segment":
        expected = replace(
            expected, stable=clear_labels(expected.outputs["logits"], outputs["logits"], graph.spec.mode)
        )
    count = len(expected.pixels)
    measured = [
        TASKS[graph.spec.task]({name: value[:size] for name, value in outputs.items()}, expected, size)
        for size in _batches(count, count)
    ]
    names = LIMITS[graph.spec.task][graph.spec.mode]
    return replace(expected, rounding={name: _worst(name, [one[name] for one in measured]) for name in names})


@torch.inference_mode()
def _run(graph: PixelGraph, pixels: np.ndarray) -> tuple[dict[str, np.ndarray], Tensor | None]:
    """Outputs of a graph, and for poses the heatmaps (N, K, H, W) float32 they were decoded from."""
    parts: list[dict[str, np.ndarray]] = []
    heatmaps: list[Tensor] = []
    for one in pixels:
        crop = torch.from_numpy(one[None])
        if graph.spec.task == "pose":
            heatmaps.append(graph.heatmaps(crop).float())
            decoded = graph.codec.decode(heatmaps[-1])
            parts.append(dict(zip(("keypoints", "scores"), (part.numpy() for part in decoded))))
        else:
            parts.append({name: value.numpy() for name, value in graph(crop).items()})
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return joined, torch.cat(heatmaps) if heatmaps else None


@torch.inference_mode()
def _stable(graph: PixelGraph, heatmaps: Tensor, rounded: Tensor | None, mode: str) -> np.ndarray:
    """(N, K) bool: see `stable_peaks`; what moves further than the mode's `shift_p95_px` does not hold."""
    most = limits_of("pose", mode, None, graph.spec.input_hw[0])["shift_p95_px"]
    return np.stack(
        [
            stable_peaks(
                graph.codec, heatmaps[n : n + 1], None if rounded is None else rounded[n : n + 1], mode, most
            ).numpy()
            for n in range(len(heatmaps))
        ]
    )


def check(backend: Backend, expected: Expected) -> dict[str, Any]:
    """Compare a backend with the reference.

    Returns:
        The report, ready for JSON: `passed`, `checked_with` (the backend), `crops`, `batches`, the quantities,
        `compared`, `of` and `left_out` of the largest batch, `limits`, `rounding`, `failures` (sentences).
    """
    spec = backend.spec
    limits = limits_of(spec.task, spec.mode, expected.rounding, spec.input_hw[0])
    batches = _batches(len(expected.pixels), spec.batch_range[1])
    measure = TASKS[spec.task]
    measured = [measure(backend.run(expected.pixels[:size]), expected, size) for size in batches]
    last = measured[-1]
    most = _filled(spec, len(expected.pixels))
    if most:
        measured.append(measure(_last_of(backend, expected.pixels, most), expected, len(expected.pixels)))
        batches.append(most)
    for other in expected.others:
        measured.append(measure(backend.run(other.pixels), other, len(other.pixels)))
    names = [name for name in last if name not in ("compared", "of", "left_out", "least")]
    worst = {name: _worst(name, [one[name] for one in measured]) for name in names}
    failures = [
        f"{name} is {worst[name]:.4g}, the limit is {limit:.4g}"
        for name, limit in limits.items()
        if over(name, worst[name], limit)
    ]
    if last["compared"] < last["least"]:
        clear = f"only {last['compared']} of {last['of']} results are clear enough to compare"
        failures.append(f"{clear}; give --check-images with people")
    return {
        "passed": not failures,
        "checked_with": backend.describe,
        "crops": len(expected.pixels),
        "batches": batches,
        "sizes": [list(one.pixels.shape[1:3]) for one in (expected, *expected.others)],
        **worst,
        **{name: last[name] for name in ("compared", "of", "left_out")},
        "limits": limits,
        "rounding": expected.rounding,
        "failures": failures,
    }


def _filled(spec: ArtifactSpec, count: int) -> int:
    """The file's largest batch if there are fewer crops than that and it is no long run; else 0."""
    most = spec.batch_range[1]
    small = most * spec.input_hw[0] * spec.input_hw[1] <= LARGEST_RUN_PX
    return most if spec.format != "eager" and most > count and small else 0


def _last_of(backend: Backend, pixels: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """Outputs of `pixels` as the last crops of a batch of `size`, which is filled up with the same."""
    filler = np.resize(pixels, (size - len(pixels), *pixels.shape[1:]))
    outputs = backend.run(np.concatenate([filler, pixels]))
    return {name: value[-len(pixels) :] for name, value in outputs.items()}


def _batches(count: int, most: int) -> list[int]:
    """1, an odd number, and all crops."""
    return sorted({size for size in (1, 3, count) if size <= min(count, most)} | {min(count, most)})


def _worst(name: str, values: list[float]) -> float:
    """The worst of all batches; what is not a number counts as `FAR`, which is over every limit and fits into JSON."""
    if name.endswith(("_min", "_mean")):
        return min(value if np.isfinite(value) else -FAR for value in values)
    return max(value if np.isfinite(value) else FAR for value in values)
