"""aAcc, mIoU and mAcc equal the original's, and a slow count."""

from pathlib import Path

import numpy as np
import pytest

from lite.errors import AnnotationError
from lite.evaluate.segmentation import Confusion


def test_equals_the_original(golden: Path) -> None:
    with np.load(golden / "sapiens/segmentation/seg_metric.npz") as arrays:
        confusion = Confusion(int(arrays["num_classes"]))
        for predicted, truth in zip(arrays["pred"], arrays["label"], strict=True):
            confusion.add(predicted, truth)
        expected = dict(zip(arrays["names"].tolist(), arrays["values"].tolist(), strict=True))
    assert confusion.scores().summary() == pytest.approx(expected, abs=1e-5)  # the original keeps them in float32


def test_equals_counting_by_hand() -> None:
    rng = np.random.default_rng(3)
    truth, predicted = rng.integers(0, 5, (2, 40, 30)).astype(np.uint8)
    truth[:5], truth[5:7], predicted[truth == 1] = 255, 7, 9
    predicted[truth == 4] = 0
    truth[truth == 3] = 2  # class 3 is given and never true
    confusion = Confusion(6)
    confusion.add(predicted[:20], truth[:20])
    confusion.add(predicted[20:], truth[20:])
    scores = confusion.scores()
    judged = truth != 255
    for n in range(6):
        both = ((truth == n) & (predicted == n) & judged).sum()
        either = (((truth == n) | (predicted == n)) & judged).sum()
        assert scores.iou[n] == pytest.approx(both / either if either else np.nan, nan_ok=True)
        true = (truth == n).sum()
        assert scores.pixels[n] == true
        assert scores.accuracy[n] == pytest.approx(both / true if true else np.nan, nan_ok=True)
    assert scores.all_accuracy == pytest.approx(((truth == predicted) & (truth < 6)).sum() / (truth < 6).sum())
    assert scores.iou[3] == 0 and np.isnan(scores.accuracy[3]) and np.isnan(scores.iou[5])
    table = scores.table(list("abcdef"))
    assert table[3]["IoU"] == 0 and table[3]["Acc"] is None and table[5]["IoU"] is None and table[0]["name"] == "a"
    assert scores.summary()["mIoU"] == round(float(np.nanmean(scores.iou)) * 100, 2)


def test_nothing_to_judge() -> None:
    confusion = Confusion(3)
    assert confusion.scores().summary() == {"aAcc": None, "mIoU": None, "mAcc": None}
    confusion.add(np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8))
    assert confusion.scores().summary() == {"aAcc": None, "mIoU": None, "mAcc": None}
    assert not confusion.counts.any()


def test_255_counts_as_a_class_beyond_when_nothing_is_ignored() -> None:
    confusion = Confusion(2, ignored=None)
    confusion.add(np.array([[0, 1]], np.uint8), np.array([[255, 1]], np.uint8))
    assert confusion.counts.tolist() == [[0, 0, 0], [0, 1, 0], [1, 0, 0]]


def test_other_sizes_are_refused() -> None:
    with pytest.raises(AnnotationError, match=r"a\.png: expected the truth to be of the picture's size \(2, 3\)"):
        Confusion(3).add(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), "a.png")
