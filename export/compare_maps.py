"""Comparisons for tasks whose outputs are maps or classes rather than points: segmentation, classification, bottom-up.

Each function is as those of `export.compare`. What a network says is compared in units of its own spread (standard
deviation over a crop), because logits and tags have no unit; what is decoded of it is compared where it is clear.
"""

from typing import Any

import numpy as np
import torch

from export.compare import Expected
from export.limits import LEAST_STABLE
from lite.codecs.tag_grouping import find_candidates, towards_higher

NEAR_PX = 1.5  # a candidate is found again within this
FIRST = 2  # of M candidates the best M / 2 are compared: the last ones are chosen among many alike


def compare_labels(outputs: dict[str, np.ndarray], expected: Expected, size: int) -> dict[str, Any]:
    """Classes of the network's cells where the first is ahead of the second by more than rounding is worth."""
    wanted, found = expected.outputs["logits"][:size], np.asarray(outputs["logits"], np.float32)
    clear = expected.stable[:size]  # (B, h, w)
    labels, got = wanted.argmax(1), found.argmax(1)
    agreement = [float((a == b)[keep].mean()) for a, b, keep in zip(labels, got, clear) if keep.any()]
    overlaps = [_miou(a[keep], b[keep]) for a, b, keep in zip(labels, got, clear) if keep.any()]
    shifts = _relative(found - wanted, wanted)
    return {
        "agreement_min": min(agreement, default=1.0),
        "miou_min": min(overlaps, default=1.0),
        "logit_shift_p95": float(np.percentile(shifts, 95)),
        "logit_shift_p50": float(np.median(shifts)),
        "compared": int(clear.sum()),
        "of": int(clear.size),
        "left_out": {"as good as equal to another class": int((~clear).sum())},
        "least": max(1, int(LEAST_STABLE * clear.size)),
    }


def _miou(wanted: np.ndarray, found: np.ndarray) -> float:
    """Mean IoU over the classes that are wanted."""
    ious = []
    for label in np.unique(wanted):
        mine, other = wanted == label, found == label
        ious.append((mine & other).sum() / (mine | other).sum())
    return float(np.mean(ious))


def compare_classes(outputs: dict[str, np.ndarray], expected: Expected, size: int) -> dict[str, Any]:
    """Probabilities, and their logarithms in units of their spread, which holds for networks that are unsure too."""
    wanted, found = expected.outputs["probabilities"][:size], np.asarray(outputs["probabilities"], np.float32)
    logs, other = (np.log(np.maximum(values, 1e-30)) for values in (wanted, found))
    shifts = _relative((other - other.mean(1, keepdims=True)) - (logs - logs.mean(1, keepdims=True)), logs)
    best = np.arange(len(wanted)), found.argmax(1)
    return {
        "probability_shift_max": float(np.abs(found - wanted).max()),
        "first_loss_max": float((wanted.max(1) - wanted[best]).max()),  # what the file's first class is less likely
        "logit_shift_p95": float(np.percentile(shifts, 95)),
        "logit_shift_p50": float(np.median(shifts)),
        "compared": len(wanted),
        "of": len(wanted),
        "left_out": {},
        "least": 1,
    }


def compare_people(outputs: dict[str, np.ndarray], expected: Expected, size: int) -> dict[str, Any]:
    """Maps as the network gave them, and candidates: those of the file's own maps, and those of the eager network."""
    wanted = {name: value[:size] for name, value in expected.outputs.items()}
    maps = {name: _relative(outputs[name] - wanted[name], wanted[name]) for name in ("heatmaps", "tag_maps")}
    lost, compared = _lost(wanted, outputs)
    return {
        "heatmap_shift_p95": float(np.percentile(maps["heatmaps"], 95)),
        "heatmap_shift_p50": float(np.median(maps["heatmaps"])),
        "tag_shift_p95": float(np.percentile(maps["tag_maps"], 95)),
        "tag_shift_p50": float(np.median(maps["tag_maps"])),
        "lost_max": lost,
        "decode_shift_p95_px": _decode_shift(outputs, expected.pixels.shape[1:3]),
        "compared": compared,
        "of": int((wanted["scores"] > 0).sum()),
        "left_out": {"not among the best": int((wanted["scores"] > 0).sum()) - compared},
        "least": 1,
    }


def _lost(wanted: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> tuple[float, int]:
    """The largest share, over the crops, of the best candidates that the file has nowhere near; how many there are."""
    some = max(1, wanted["scores"].shape[2] // FIRST)
    shares, compared = [], 0
    for points, scores, others, other_scores in zip(
        wanted["keypoints"], wanted["scores"], found["keypoints"], found["scores"]
    ):
        best = scores[:, :some] > 0  # (K, M / 2)
        apart = np.linalg.norm(points[:, :some, None] - others[:, None], axis=3)  # (K, M / 2, M)
        near = ((apart < NEAR_PX) & (other_scores > 0)[:, None]).any(2)
        shares.append(float((best & ~near).sum() / max(best.sum(), 1)))
        compared += int(best.sum())
    return max(shares), compared


def _decode_shift(outputs: dict[str, np.ndarray], input_hw: tuple[int, int]) -> float:
    """How far (95th percentile, px) the file's candidates are from those that its own heatmaps have in float32."""
    heatmaps = torch.from_numpy(np.asarray(outputs["heatmaps"], np.float32))
    full = torch.nn.functional.interpolate(heatmaps, size=tuple(input_hw), mode="bilinear", align_corners=False)
    x, y, scores = find_candidates(full, outputs["scores"].shape[2])
    points = towards_higher(full, x, y)[:, :, : max(1, scores.shape[2] // FIRST)]
    apart = torch.cdist(points, torch.from_numpy(np.asarray(outputs["keypoints"], np.float32))).amin(3)
    return float(np.percentile(apart[scores[:, :, : apart.shape[2]] > 0].numpy(), 95)) if (scores > 0).any() else 0.0


def _relative(shift: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Sizes of shifts (B, ...) in standard deviations of what is wanted in the same crop."""
    axes = tuple(range(1, wanted.ndim))
    return np.abs(shift) / np.maximum(wanted.std(axis=axes, keepdims=True), 1e-12)
