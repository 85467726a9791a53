"""Top-1 and top-5, against the original's errors."""

import numpy as np
import pytest

from lite.evaluate.classification import class_accuracy


def test_errors_of_the_original(golden):
    arrays = np.load(golden / "hrnet" / "class_errors.npz")
    labels = np.argsort(-arrays["cls_logits"], axis=1, kind="stable")[:, :5]
    numbers = class_accuracy(labels, arrays["cls_targets"])
    assert numbers["top-1 error"] == pytest.approx(float(arrays["cls_top1_error"]), abs=1e-6)
    assert numbers["top-5 error"] == pytest.approx(float(arrays["cls_top5_error"]), abs=1e-6)
    assert numbers["top-1"] == pytest.approx(0.5) and numbers["top-5"] == pytest.approx(2 / 3)


def test_nothing_one_and_few_classes():
    assert set(class_accuracy(np.zeros((0, 5), int), []).values()) == {-1.0}
    right = class_accuracy(np.array([[3, 1, 2, 0, 9]]), [1])
    assert right == {"top-1": 0.0, "top-1 error": 1.0, "top-5": 1.0, "top-5 error": 0.0}
    assert class_accuracy(np.array([[0, 1], [1, 0]]), np.array([0, 0]))["top-1"] == 0.5
    assert class_accuracy(np.array([[0, 1, 2, 3, 4, 5]]), [5])["top-5"] == 0.0  # the sixth does not count


def test_lengths_that_differ_are_our_mistake():
    with pytest.raises(TypeError, match="truth"):
        class_accuracy(np.zeros((2, 5), int), [1])
