"""Two sets of outputs for the same crops, compared in the quantities of the task: one function per task.

Each gives the quantities of `export.limits.LIMITS`, and beside them `compared` and `of` (how many results were, and how
many there are), `left_out` (why the others were not) and `least` (fewer compared ones say nothing).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from export.limits import LEAST_STABLE
from lite.geometry import iou

SURE_SCORE = 0.3  # boxes above it are compared
LEAST_BOXES = 5  # without that many sure boxes, the best of each frame are compared instead


@dataclass(frozen=True, kw_only=True, eq=False)
class Expected:
    """What the eager float32 network gives for the check crops.

    Attributes:
        pixels: (N, h, w, 3) uint8 RGB.
        outputs: name -> array, first axis N.
        oks_sigmas: (K,) or (1,) per-keypoint constants (pose).
        heatmaps: (N, K, H, W) float32 (pose).
        stable: (N, K) bool, keypoints whose peak holds under the mode's rounding (pose); (N, h, w) bool, cells whose
            class holds (segment).
        rounding: what the eager network in the mode measures against it; None where it was not run.
        others: the same for inputs of another size, where a network takes them.
    """

    pixels: np.ndarray
    outputs: dict[str, np.ndarray]
    oks_sigmas: np.ndarray
    heatmaps: Tensor | None = None
    stable: np.ndarray | None = None
    rounding: dict[str, Any] | None = None
    others: "tuple[Expected, ...]" = ()


def compare_poses(outputs: dict[str, np.ndarray], expected: Expected, size: int) -> dict[str, Any]:
    """Shifts of the stable keypoints of the first `size` crops; `oks_all_mean` takes in the unstable ones."""
    stable = expected.stable[:size]
    wanted = {name: value[:size] for name, value in expected.outputs.items()}
    shift = np.linalg.norm(outputs["keypoints"] - wanted["keypoints"], axis=2)  # (B, K) crop px
    scores = np.abs(outputs["scores"] - wanted["scores"])
    scores = scores / np.maximum(np.abs(wanted["scores"]), 1.0)  # relative where a network scores above 1
    height, width = expected.pixels.shape[1:3]
    area = height * width / 1.25**2  # the box inside the padding, crop px^2
    near = np.exp(-(shift**2) / (2 * area * (2 * expected.oks_sigmas) ** 2))
    oks = [row[keep].mean() for row, keep in zip(near, stable) if keep.any()]
    chosen = shift[stable] if stable.any() else np.zeros(1)
    peaks = wanted["scores"] > 0
    return {
        "shift_max_px": float(chosen.max()),
        "shift_p95_px": float(np.percentile(chosen, 95)),
        "shift_p50_px": float(np.median(chosen)),
        "oks_min": float(min(oks, default=1.0)),
        "oks_all_mean": float(near[peaks].mean()) if peaks.any() else 1.0,
        "score_shift_max": float(scores[stable].max(initial=0.0)),
        "compared": int(stable.sum()),
        "of": int(stable.size),
        "left_out": {
            "turned over by rounding alone": int((peaks & ~stable).sum()),
            "without a peak": int((~peaks & ~stable).sum()),
        },
        "least": max(1, int(LEAST_STABLE * stable.size)),
    }


def compare_boxes(outputs: dict[str, np.ndarray], expected: Expected, size: int) -> dict[str, Any]:
    """Each sure box against its best counterpart on the other side, both ways: nothing lost, nothing invented."""
    overlaps, edges, shifts = [], [], []
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
            edges.extend(np.abs(boxes[sure] - boxes2[best]).max(1))
    found = int((want["scores"] > 0).sum() + (outputs["scores"] > 0).sum())
    return {
        "iou_min": float(min(overlaps, default=1.0)),
        "edge_p50_px": float(np.median(edges)) if edges else 0.0,
        "score_shift_max": float(max(shifts, default=0.0)),
        "score_shift_p95": float(np.percentile(shifts, 95)) if shifts else 0.0,
        "compared": len(overlaps),
        "of": found,
        "left_out": {f"scored below {SURE_SCORE}": found - len(overlaps)},
        "least": 1,
    }
