"""The gate: an exported file, run by the backend that will serve it, against the eager float32 network.

Compared are the task's own quantities on real crops, at batch 1, an odd batch and the largest tried. `LIMITS` is the
one table of what may differ. Over a limit, the file is not written under its final name.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lite.backends.base import Backend
from lite.geometry import iou
from lite.graph import PixelGraph

# Largest allowed difference (or smallest allowed agreement) per task and mode. Shifts in crop px, one heatmap px is 4.
LIMITS: dict[str, dict[str, dict[str, float]]] = {
    "pose": {
        "float32": {"shift_max_px": 0.05, "shift_p95_px": 0.02, "oks_min": 0.999, "score_shift_max": 0.002},
        "bfloat16": {"shift_max_px": 16.0, "shift_p95_px": 2.0, "oks_min": 0.95, "score_shift_max": 0.08},
    },
    "detect": {
        "float32": {"iou_min": 0.99, "score_shift_max": 0.005, "score_shift_p95": 0.002},
        "bfloat16": {"iou_min": 0.93, "score_shift_max": 0.08, "score_shift_p95": 0.05},
    },
}
# Noise that rounding in a mode adds to a heatmap, as a fraction of its range; used to find peaks that cannot hold.
NOISE = {"float32": 1e-5, "bfloat16": 5e-2}
NOISE_DRAWS = 8
# Below this share of the best score a peak is weak, and its place is chance in reduced precision. Trained networks
# score up to about 1, so this is what drawing leaves out by default as well.
LEAST_SCORE = {"float32": 0.0, "bfloat16": 0.3}
LEAST_STABLE = 0.02  # of all keypoints; with fewer, the comparison says nothing
FAR = 1e9
SURE_SCORE = 0.3  # boxes of the reference above it are compared
LEAST_BOXES = 5  # without that many sure boxes, the best of each frame are compared instead


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """What the eager float32 network gives for the check crops.

    Attributes:
        pixels: (N, h, w, 3) uint8 RGB.
        outputs: name -> array, first axis N.
        stable: (N, K) bool, keypoints whose peak holds under noise of the mode's size (pose).
        oks_sigmas: (K,) or (1,) per-keypoint constants (pose).
    """

    pixels: np.ndarray
    outputs: dict[str, np.ndarray]
    oks_sigmas: np.ndarray
    stable: np.ndarray | None = None


@torch.inference_mode()
def reference(graph: PixelGraph, pixels: np.ndarray, mode: str, oks_sigmas: np.ndarray) -> Reference:
    """Run the eager float32 graph, one crop at a time, and find its unstable keypoints for `mode`.

    A keypoint is unstable when its score is not above `LEAST_SCORE[mode]` times the best of all crops, or when noise of
    `NOISE[mode]` times its heatmap's range, drawn `NOISE_DRAWS` times, moves its decoded position by more than the
    mode's `shift_p95_px` once: a flat or double peak that any rounding may turn over.
    """
    outputs: list[dict[str, np.ndarray]] = []
    holds: list[np.ndarray] = []
    random = torch.Generator().manual_seed(0)
    for one in pixels:
        crop = torch.from_numpy(one[None])
        if graph.spec.task == "pose":
            heatmaps = graph.heatmaps(crop)
            outputs.append(dict(zip(("keypoints", "scores"), (part.numpy() for part in graph.codec.decode(heatmaps)))))
            holds.append(_holds(graph, heatmaps, mode, random))
        else:
            outputs.append({name: value.numpy() for name, value in graph(crop).items()})
    joined = {name: np.concatenate([part[name] for part in outputs]) for name in outputs[0]}
    stable = None
    if holds:
        stable = np.concatenate(holds) & (joined["scores"] > LEAST_SCORE[mode] * joined["scores"].max())
    return Reference(pixels=pixels, outputs=joined, oks_sigmas=oks_sigmas, stable=stable)


def _holds(graph: PixelGraph, heatmaps: torch.Tensor, mode: str, random: torch.Generator) -> np.ndarray:
    """(B, K) bool: the decoded point stays where it is under noise of the mode's size."""
    size = NOISE[mode] * (heatmaps.amax((2, 3), keepdim=True) - heatmaps.amin((2, 3), keepdim=True))
    keypoints, scores = graph.codec.decode(heatmaps)
    holds = scores > 0
    for _ in range(NOISE_DRAWS):
        noisy = heatmaps + size * torch.randn(heatmaps.shape, generator=random)
        moved = (graph.codec.decode(noisy)[0] - keypoints).norm(dim=2)
        holds &= moved <= LIMITS["pose"][mode]["shift_p95_px"]
    return holds.numpy()


def check(backend: Backend, expected: Reference) -> dict[str, Any]:
    """Compare a backend with the reference.

    Returns:
        The report, ready for JSON: `passed`, `crops`, `batches`, the quantities, `limits`, `failures` (sentences).
    """
    spec = backend.spec
    limits = LIMITS[spec.task][spec.mode]
    batches = _batches(len(expected.pixels), spec.batch_range[1])
    measure = _compare_poses if spec.task == "pose" else _compare_boxes
    measured = [measure(backend.run(expected.pixels[:size]), expected, size) for size in batches]
    worst = {name: _worst(name, [one[name] for one in measured]) for name in measured[0]}
    failures = [
        f"{name} is {worst[name]:.4g}, the limit is {limit:.4g}"
        for name, limit in limits.items()
        if _over(name, worst[name], limit)
    ]
    if worst["compared"] < worst.pop("least"):
        clear = f"only {worst['compared']} of {worst['of']} results are clear enough to compare"
        failures.append(f"{clear}; give --check-images with people")
    return {
        "passed": not failures,
        "crops": len(expected.pixels),
        "batches": batches,
        **worst,
        "limits": limits,
        "failures": failures,
    }


def report_lines(report: dict[str, Any]) -> list[str]:
    """The report for people, one quantity a line."""
    lines = [f"check against eager float32: {report['crops']} crops, batches {', '.join(map(str, report['batches']))}"]
    lines.append(f"  compared {report['compared']} of {report['of']}; the rest is too flat or too weak to compare")
    lines += [f"  {name:<16} {report[name]:.5g} (limit {limit:.5g})" for name, limit in report["limits"].items()]
    return [*lines, *(f"  FAILED: {failure}" for failure in report["failures"])]


def _batches(count: int, most: int) -> list[int]:
    """1, an odd number, and the largest."""
    return sorted({size for size in (1, 3, count) if size <= min(count, most)} | {min(count, most)})


def _over(name: str, value: float, limit: float) -> bool:
    return value < limit if name.endswith("_min") else value > limit


def _worst(name: str, values: list[float]) -> float:
    """The worst of all batches; what is not a number counts as `FAR`, which is over every limit and fits into JSON."""
    if name.endswith("_min"):
        return min(value if np.isfinite(value) else -FAR for value in values)
    return max(value if np.isfinite(value) else FAR for value in values)


def _compare_poses(outputs: dict[str, np.ndarray], expected: Reference, size: int) -> dict[str, float]:
    """Shifts of the stable keypoints of the first `size` crops."""
    stable = expected.stable[:size]
    shift = np.linalg.norm(outputs["keypoints"] - expected.outputs["keypoints"][:size], axis=2)  # (B, K) crop px
    scores = np.abs(outputs["scores"] - expected.outputs["scores"][:size])
    scores /= np.maximum(np.abs(expected.outputs["scores"][:size]), 1.0)  # relative where a network scores above 1
    height, width = expected.pixels.shape[1:3]
    area = height * width / 1.25**2  # the box inside the padding, crop px^2
    near = np.exp(-(shift**2) / (2 * area * (2 * expected.oks_sigmas) ** 2))
    oks = [row[keep].mean() for row, keep in zip(near, stable) if keep.any()]
    chosen = shift[stable] if stable.any() else np.zeros(1)
    return {
        "shift_max_px": float(chosen.max()),
        "shift_p95_px": float(np.percentile(chosen, 95)),
        "oks_min": float(min(oks, default=1.0)),
        "score_shift_max": float(scores[stable].max(initial=0.0)),
        "compared": int(stable.sum()),
        "of": int(stable.size),
        "least": max(1, int(LEAST_STABLE * expected.stable.size)),
    }


def _compare_boxes(outputs: dict[str, np.ndarray], expected: Reference, size: int) -> dict[str, float]:
    """Each sure box against its best counterpart on the other side, both ways: nothing lost, nothing invented."""
    overlaps, shifts = [], []
    want = {name: value[:size] for name, value in expected.outputs.items()}
    for mine, other in ((want, outputs), (outputs, want)):
        for boxes, scores, labels, boxes2, scores2, labels2 in zip(
            *(side[n] for side in (mine, other) for n in ("boxes", "scores", "labels"))
        ):
            sure = scores > SURE_SCORE
            if sure.sum() < LEAST_BOXES:
                sure = np.zeros_like(sure)
                sure[np.argsort(-scores, kind="stable")[:LEAST_BOXES]] = True
                sure &= scores > 0
            same = labels[sure][:, None] == labels2[None]
            agreement = np.where(same & (scores2 > 0)[None], iou(boxes[sure], boxes2), 0.0)
            apart = np.abs(scores[sure][:, None] - scores2[None])
            best = np.argmax(agreement - apart, axis=1)
            rows = np.arange(len(best))
            overlaps.extend(agreement[rows, best])
            shifts.extend(apart[rows, best])
    return {
        "iou_min": float(min(overlaps, default=1.0)),
        "score_shift_max": float(max(shifts, default=0.0)),
        "score_shift_p95": float(np.percentile(shifts, 95)) if shifts else 0.0,
        "compared": len(overlaps),
        "of": int((want["scores"] > 0).sum() + (outputs["scores"] > 0).sum()),
        "least": 1,
    }
