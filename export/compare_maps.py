"""Comparisons for tasks whose outputs are maps or classes rather than points: segmentation, classification, bottom-up.

Each function is as those of `export.compare`. What a network says is compared in units of its own spread (standard
deviation over a crop), because logits and tags have no unit; what is decoded of it is compared where it is clear.
"""

from typing import Any

import numpy as np
import torch

from export.compare import Expected
from export.limits import LEAST_STABLE
from export.stable import of_classes
from lite.codecs.tag_grouping import STRIDE_OF_TAGS, find_candidates, read_tags, towards_higher

NEAR_PX = 1.5  # a candidate is found again within this
AHEAD = 0.01  # deviations of the heatmaps
FIRST = 2  # of M candidates the best M / 2 are compared: the last ones are chosen among many alike


def compare_labels(outputs: dict[str, np.ndarray], expected: Expected, size: int) -> dict[str, Any]:
    """Classes of the network's cells where the first is ahead of the second by more than rounding is worth."""
    wanted, found = expected.outputs["logits"][:size], np.asarray(outputs["logits"], np.float32)
    clear = expected.stable[:size]  # (B, h, w)
    labels, got = of_classes(wanted).argmax(1), of_classes(found).argmax(1)
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
        "sum_shift_max": float(np.abs(found.sum(1, dtype=np.float64) - 1.0).max()),  # softmax is float32 in any mode
        "logit_shift_max": float(shifts.max()),
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
    clear = clear_candidates(wanted["scores"], wanted["heatmaps"])
    lost, tags = _lost(wanted, outputs, clear), _tag_shift(outputs)
    shift, scores = _decode_shift(outputs, expected.pixels.shape[1:3])
    peaks = int((wanted["scores"] > 0).sum())
    return {
        "heatmap_shift_p95": float(np.percentile(maps["heatmaps"], 95)),
        "heatmap_shift_p50": float(np.median(maps["heatmaps"])),
        "tag_shift_p95": float(np.percentile(maps["tag_maps"], 95)),
        "tag_shift_p50": float(np.median(maps["tag_maps"])),
        "lost_max": lost,
        "decode_shift_p95_px": shift,
        "decode_score_max": scores,
        "decode_tag_p95": tags,
        "compared": int(clear.sum()),
        "of": peaks,
        "left_out": {"hardly above those that were not kept": peaks - int(clear.sum())},
        "least": 1,
    }


def clear_candidates(scores: np.ndarray, heatmaps: np.ndarray) -> np.ndarray:
    """(B, K, M) bool: of each M candidates the first ones, where they are well above the last.

    Which of many alike are the last is chance, and a plateau gives as many of them as are asked for.

    Args:
        scores: (B, K, M), descending. heatmaps: (B, K, h, w) they were found in.
    """
    some = max(1, scores.shape[2] // FIRST)
    ahead = AHEAD * heatmaps.std(axis=(1, 2, 3))[:, None, None]
    clear = (scores > 0) & (scores > scores[:, :, -1:] + ahead)
    clear[:, :, some:] = False
    return clear


def _lost(wanted: dict[str, np.ndarray], found: dict[str, np.ndarray], clear: np.ndarray) -> float:
    """The largest share, over the crops, of the clear candidates that the file has nowhere near."""
    shares = []
    for points, others, scores, keep in zip(wanted["keypoints"], found["keypoints"], found["scores"], clear):
        apart = np.linalg.norm(points[:, :, None] - others[:, None], axis=3)  # (K, M, M)
        near = ((apart < NEAR_PX) & (scores > 0)[:, None]).any(2)
        shares.append(float((keep & ~near).sum() / max(keep.sum(), 1)))
    return max(shares)


def _tag_shift(found: dict[str, np.ndarray]) -> float:
    """How far (95th percentile, in deviations of the tag maps) the tags of candidates are from what the file's own tag
    maps hold there."""
    maps = torch.from_numpy(np.asarray(found["tag_maps"], np.float32))
    if not np.isfinite(found["keypoints"]).all():
        return float("nan")
    height, width = (STRIDE_OF_TAGS * side for side in maps.shape[3:])
    x, y = torch.from_numpy(np.floor(found["keypoints"]).astype(np.int64)).unbind(3)
    own = read_tags(maps, x.clamp(0, width - 1), y.clamp(0, height - 1)).numpy()
    shift = np.abs(found["tags"] - own)[found["scores"] > 0]
    return float(np.percentile(shift, 95)) / max(float(maps.std()), 1e-12) if shift.size else 0.0


def _decode_shift(outputs: dict[str, np.ndarray], input_hw: tuple[int, int]) -> tuple[float, float]:
    """What decode does to the file's own heatmaps: how far (95th percentile, px) its candidates are from those found in
    float32, and the largest difference of the scores, in deviations of the heatmaps."""
    heatmaps = torch.from_numpy(np.asarray(outputs["heatmaps"], np.float32))
    full = torch.nn.functional.interpolate(heatmaps, size=tuple(input_hw), mode="bilinear", align_corners=False)
    x, y, scores = find_candidates(full, outputs["scores"].shape[2])
    keep = torch.from_numpy(clear_candidates(scores.numpy(), heatmaps.numpy()))
    points = towards_higher(full, x, y)
    others = torch.from_numpy(np.asarray(outputs["keypoints"], np.float32))
    # Not by matrix products, which are off by tenths of a px here.
    apart = torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist").amin(3)[keep].numpy()
    higher = np.abs(outputs["scores"] - scores.numpy()) / max(float(heatmaps.std()), 1e-12)
    return float(np.percentile(apart, 95)) if apart.size else 0.0, float(higher.max())


def _relative(shift: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Sizes of shifts (B, ...) in standard deviations of what is wanted in the same crop."""
    axes = tuple(range(1, wanted.ndim))
    return np.abs(shift) / np.maximum(wanted.std(axis=axes, keepdims=True), 1e-12)
