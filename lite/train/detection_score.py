"""Box AP of one class, for choosing weights: COCO's rule, with regions where nothing counts."""

from collections.abc import Sequence

import numpy as np

from lite.geometry import iou

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)

# boxes (N, 4), scores (N,), true boxes (M, 4), ignored regions (I, 4)
Frame = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def average_precision(frames: Sequence[Frame]) -> float:
    """Mean over IoU 0.5 to 0.95 of the area under the precision-recall curve, 0..1; 0 where there is no true box.

    Detections without a true box that lie in an ignored region count neither for nor against.

    Source: pycocotools `COCOeval`, which this equals when the ignored regions are its crowds.
    """
    wanted = sum(len(truth) for _, _, truth, _ in frames)
    if not wanted:
        return 0.0
    found = [outcomes(*frame) for frame in frames]
    scores = np.concatenate([score for score, _, _ in found])
    order = np.argsort(-scores, kind="stable")
    hits = np.concatenate([hit for _, hit, _ in found], axis=1)[:, order]  # (10, N)
    counted = np.concatenate([count for _, _, count in found], axis=1)[:, order]
    return float(np.mean([_area(hit[count], wanted) for hit, count in zip(hits, counted)]))


def outcomes(
    boxes: np.ndarray, scores: np.ndarray, truth: np.ndarray, ignored: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores (N,) in descending order; per IoU threshold whether each box is a hit (10, N) and whether it counts."""
    order = np.argsort(-scores, kind="stable")
    boxes, scores = boxes[order], scores[order]
    overlap = iou(boxes, truth)
    covered = _covered(boxes, ignored)
    hits = np.zeros((len(THRESHOLDS), len(boxes)), bool)
    for row, threshold in zip(hits, THRESHOLDS):
        free = np.ones(len(truth), bool)
        for i in range(len(boxes)):
            candidates = np.where(free, overlap[i], 0)
            if len(truth) and candidates.max() >= threshold:
                row[i] = True
                free[candidates.argmax()] = False
    return scores, hits, hits | (covered[None] < THRESHOLDS[:, None])


def _covered(boxes: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """(N,) largest share of each box that one ignored region covers."""
    low = np.maximum(boxes[:, None, :2], ignored[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], ignored[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(2)
    return (shared / np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(1), 1e-9)[:, None]).max(1, initial=0.0)


def _area(hits: np.ndarray, wanted: int) -> float:
    """Area under the curve of boxes in descending order of score, at 101 recalls."""
    true = np.cumsum(hits)
    precision = np.maximum.accumulate((true / np.arange(1, len(hits) + 1))[::-1])[::-1]
    at = np.searchsorted(true / wanted, RECALLS, side="left")
    return float(np.append(precision, 0.0)[np.minimum(at, len(precision))].mean())
