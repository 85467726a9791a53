"""Minimum-cost assignment by the Hungarian method, with the search order the published bottom-up systems rely on.

Costs of tag grouping are rounded, so that many assignments cost exactly the same and the order of the search decides
who gets which keypoint. This one visits zeros as the Python package munkres does. What is looked at again and again,
the zeros of a row and the covered columns, are bits of one integer each: thirty people take a millisecond.
"""

import numpy as np


def assign(cost: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (row, column) of least total cost, each row and column in one pair at most, by ascending row.

    Args:
        cost: (R, C), finite. The smaller side is filled up with zeros; every row or every column gets a partner.

    Raises:
        ValueError: a cost is not finite, for which there is no least sum.

    Source: Munkres, "Algorithms for the Assignment and Transportation Problems"; ties as munkres 1.1.
    """
    rows, columns = cost.shape
    if not np.isfinite(cost).all():
        raise ValueError("cost: expected finite numbers, found others")
    if rows == 0 or columns == 0:
        return []
    n = max(rows, columns)
    square = np.zeros((n, n))
    square[:rows, :columns] = cost
    square -= square.min(axis=1, keepdims=True)
    star_of_row = _first_stars(square)
    while None in star_of_row:
        _one_more(square, star_of_row)
    return [(row, column) for row, column in enumerate(star_of_row[:rows]) if column < columns]


def _first_stars(square: np.ndarray) -> list[int | None]:
    """Column of each row's star: its first zero in a column that has none yet."""
    stars: list[int | None] = []
    free = (1 << len(square)) - 1
    for zeros in _zeros(square):
        open_zeros = zeros & free
        lowest = open_zeros & -open_zeros
        free &= ~lowest
        stars.append(lowest.bit_length() - 1 if lowest else None)
    return stars


def _zeros(square: np.ndarray) -> list[int]:
    """For each row an integer whose bit c tells whether column c is zero."""
    packed = np.packbits(square == 0, axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]


def _one_more(square: np.ndarray, star_of_row: list[int | None]) -> None:
    """Give one more row a star; changes both arguments.

    Zeros are primed until one lies in a row without a star; a row with one is covered and its star's column uncovered.
    Where no open zero is left, the smallest open number makes one.
    """
    n = len(square)
    everything = (1 << n) - 1
    row_of_star = {column: row for row, column in enumerate(star_of_row) if column is not None}
    open_columns = everything & ~sum(1 << column for column in row_of_star)
    open_rows = [True] * n
    prime_of_row: dict[int, int] = {}
    zeros = _zeros(square)
    first_row, first_column = 0, 0
    while True:
        found = _open_zero(zeros, open_rows, open_columns, first_row, first_column)
        if found is None:
            _make_zero(square, open_rows, open_columns)
            zeros = _zeros(square)
            first_row, first_column = 0, 0
            continue
        row, column = found
        prime_of_row[row] = column
        star = star_of_row[row]
        if star is None:
            break
        open_rows[row] = False
        open_columns |= 1 << star
        first_row, first_column = row, star
    # The path of primes and stars: each prime becomes a star and takes its column from the row that had it.
    while row is not None:
        column = prime_of_row[row]
        loser = row_of_star.get(column)
        star_of_row[row] = column
        row = loser


def _open_zero(
    zeros: list[int], open_rows: list[bool], open_columns: int, first_row: int, first_column: int
) -> tuple[int, int] | None:
    """The zero that is primed next: cyclically the first row from `first_row` that has any, and in it the last one of
    the columns walked through cyclically from `first_column`."""
    n = len(zeros)
    before = (1 << first_column) - 1  # these columns end the walk
    for row in (*range(first_row, n), *range(first_row)):
        found = zeros[row] & open_columns
        if found and open_rows[row]:
            return row, ((found & before) or found).bit_length() - 1
    return None


def _make_zero(square: np.ndarray, open_rows: list[bool], open_columns: int) -> None:
    """Take the smallest open number from the open columns, after adding it to the covered rows."""
    n = len(square)
    bits = np.frombuffer(open_columns.to_bytes((n + 7) // 8, "little"), np.uint8)
    columns = np.unpackbits(bits, bitorder="little", count=n).astype(bool)
    rows = np.array(open_rows)
    least = square[rows][:, columns].min()
    square[~rows] += least
    square[:, columns] -= least
