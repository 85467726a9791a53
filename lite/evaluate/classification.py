"""Predicted classes + ground truth -> top-1 and top-5 accuracy and error."""

from collections.abc import Sequence

import numpy as np

TOPS = (1, 5)


def class_accuracy(labels: np.ndarray, truth: np.ndarray | Sequence[int]) -> dict[str, float]:
    """How often the right class is among the likeliest ones.

    Args:
        labels: (N, n) int, class ids of N pictures, likeliest first; n of at least 5, or all the classes there are.
        truth: (N,) int, the right ones.

    Returns:
        "top-1" and "top-5" (the part of pictures whose class is among the first so many), "top-1 error" and
        "top-5 error" (the others), 0..1; -1 where there are no pictures.
    """
    labels, truth = np.asarray(labels), np.asarray(truth)
    if labels.ndim != 2 or truth.shape != labels.shape[:1]:
        raise TypeError(f"expected (N, n) labels and (N,) truth, found {labels.shape} and {truth.shape}")
    numbers = {}
    for top in TOPS:
        hits = (labels[:, :top] == truth[:, None]).any(axis=1)
        part = float(hits.mean()) if hits.size else -1.0
        numbers[f"top-{top}"] = part
        numbers[f"top-{top} error"] = 1.0 - part if hits.size else -1.0
    return numbers
