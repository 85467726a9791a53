"""Label maps + truth -> aAcc, mIoU and mAcc, and the numbers of each class, as the original's metric counts them.

Source: mmseg `IoUMetric` (metrics mIoU, nan_to_num None), as the Sapiens training repository uses it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lite.errors import AnnotationError

IGNORED = 255
_COUNTED = 2**22  # pixels counted at a time, in eight bytes each


class Confusion:
    """How many pixels of each true class were given each class.

    Attributes:
        counts: (C + 1, C + 1) int64, truth down, prediction across; the last row and column are classes beyond C.
    """

    def __init__(self, num_classes: int, ignored: int | None = IGNORED) -> None:
        self.num_classes, self.ignored = num_classes, ignored
        self.counts = np.zeros((num_classes + 1, num_classes + 1), np.int64)

    def add(self, predicted: np.ndarray, truth: np.ndarray, source: str = "") -> None:
        """Count one picture.

        Args:
            predicted, truth: (H, W) uint8; pixels whose truth is `ignored` do not count.
            source: the picture, for the message.

        Raises:
            AnnotationError: the two differ in size.
        """
        if predicted.shape != truth.shape:
            raise AnnotationError(
                f"{source or 'label map'}: expected the truth to be of the picture's size {predicted.shape}, found "
                f"{truth.shape}; the two files do not belong together"
            )
        side = self.num_classes + 1
        given, true = np.ascontiguousarray(predicted).reshape(-1), np.ascontiguousarray(truth).reshape(-1)
        for start in range(0, true.size, _COUNTED):
            part, actual = given[start : start + _COUNTED], true[start : start + _COUNTED]
            if self.ignored is not None:
                kept = actual != self.ignored
                part, actual = part[kept], actual[kept]
            cells = np.minimum(actual, self.num_classes).astype(np.int64) * side + np.minimum(part, self.num_classes)
            self.counts += np.bincount(cells, minlength=side * side).reshape(side, side)

    def scores(self) -> "LabelScores":
        """The numbers over everything added so far."""
        c = self.num_classes
        both = np.diagonal(self.counts)[:c].astype(np.float64)
        true = self.counts[:c].sum(axis=1).astype(np.float64)
        given = self.counts[:, :c].sum(axis=0).astype(np.float64)
        return LabelScores(
            all_accuracy=float(_share(both.sum(), true.sum())),
            iou=_share(both, true + given - both),
            accuracy=_share(both, true),
            pixels=true.astype(np.int64),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelScores:
    """Shares 0..1; NaN where there is nothing to judge.

    Attributes:
        all_accuracy: pixels with the right class among all.
        iou: (C,) of each class; NaN for one that is neither true nor given anywhere, 0 for one that is only given.
        accuracy: (C,) share of the class's pixels that were found; NaN for a class that is nowhere true.
        pixels: (C,) int64, true pixels of each class.
    """

    all_accuracy: float
    iou: np.ndarray
    accuracy: np.ndarray
    pixels: np.ndarray

    def summary(self) -> dict[str, float | None]:
        """`aAcc`, `mIoU`, `mAcc` in percent, two decimals; classes with nothing to judge are left out of the means."""
        means = {"aAcc": self.all_accuracy, "mIoU": _mean(self.iou), "mAcc": _mean(self.accuracy)}
        return {name: _percent(value) for name, value in means.items()}

    def table(self, names: Sequence[str]) -> list[dict[str, str | int | float | None]]:
        """One row a class: `name`, `IoU` and `Acc` in percent (None where there is nothing to judge), `pixels`."""
        return [
            {"name": name, "IoU": _percent(iou), "Acc": _percent(accuracy), "pixels": int(pixels)}
            for name, iou, accuracy, pixels in zip(names, self.iou, self.accuracy, self.pixels, strict=True)
        ]


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


def _mean(values: np.ndarray) -> float:
    judged = values[~np.isnan(values)]
    return float(judged.mean()) if judged.size else float("nan")


def _percent(share: float) -> float | None:
    return None if np.isnan(share) else round(float(share) * 100, 2)
