"""Least cost, and among equal costs the pairs of the original's solver."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from lite.assignment import assign


def test_pairs_are_those_of_the_original(golden: Path) -> None:
    with np.load(golden / "higherhrnet/assignment.npz") as stored:
        names = sorted({name.split("/")[0] for name in stored.files})
        assert len(names) == 22
        assert not all(stored[f"{name}/scipy_same"] for name in names)  # some are decided by the order of the search
        for name in names:
            cost, wanted = stored[f"{name}/cost"], stored[f"{name}/pairs"]
            assert assign(cost) == [tuple(pair) for pair in wanted.tolist()], name


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (5, 2), (4, 4), (6, 5)])
def test_cost_is_least(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(sum(shape))
    for whole in (False, True):
        cost = rng.integers(0, 4, shape).astype(float) if whole else rng.normal(size=shape)
        wide = cost if shape[0] <= shape[1] else cost.T
        least = min(
            sum(wide[row, column] for row, column in enumerate(columns))
            for columns in permutations(range(wide.shape[1]), wide.shape[0])
        )
        pairs = assign(cost)
        assert len(pairs) == len({row for row, _ in pairs}) == len({column for _, column in pairs}) == min(shape)
        assert sum(cost[pair] for pair in pairs) == pytest.approx(least)


def test_nobody_to_assign() -> None:
    assert assign(np.zeros((0, 3))) == assign(np.zeros((3, 0))) == []


def test_more_than_a_machine_word_of_columns() -> None:
    order = np.random.default_rng(0).permutation(100)
    cost = np.ones((100, 100))
    cost[np.arange(100), order] = 0
    assert assign(cost) == list(enumerate(order.tolist()))


def test_cost_has_to_be_finite() -> None:
    with pytest.raises(ValueError, match="finite"):
        assign(np.array([[0.0, np.nan]]))
