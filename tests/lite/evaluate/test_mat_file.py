"""Tests of `lite.evaluate.mat_file`."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from lite.errors import AnnotationError
from lite.evaluate.mat_file import LARGEST, read_mat

HEADER = b"MATLAB 5.0".ljust(124) + struct.pack("<H", 0x0100) + b"IM"


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + b"\0" * (-len(content) % 8)


def matrix(kind: int, shape: Sequence[int], name: str, content: bytes) -> bytes:
    flags, sizes = struct.pack("<II", kind, 0), struct.pack(f"<{len(shape)}i", *shape)
    return element(14, element(6, flags) + element(5, sizes) + element(1, name.encode()) + content)


def packed(content: bytes) -> bytes:
    data = zlib.compress(content)
    return struct.pack("<II", 15, len(data)) + data


def write(folder: Path, *parts: bytes) -> Path:
    path = folder / "a.mat"
    path.write_bytes(HEADER + b"".join(parts))
    return path


NUMBERS = matrix(6, (2, 3), "numbers", element(9, np.arange(6.0).tobytes()))
CELLS = matrix(1, (1, 2), "cells", matrix(4, (1, 2), "", element(4, "ab".encode("utf-16-le"))) + NUMBERS)


@pytest.mark.parametrize("parts", [(NUMBERS, CELLS), (packed(NUMBERS), packed(CELLS))])
def test_numbers_and_cells(tmp_path: Path, parts: tuple[bytes, ...]) -> None:
    found = read_mat(write(tmp_path, *parts))
    np.testing.assert_array_equal(found["numbers"], [[0, 2, 4], [1, 3, 5]])
    assert found["cells"][0] == "ab" and found["cells"][1].shape == (2, 3)


def test_nothing_in_it(tmp_path: Path) -> None:
    assert read_mat(write(tmp_path)) == {}


@pytest.mark.parametrize("compressed", [False, True])
def test_as_scipy(tmp_path: Path, compressed: bool) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    values = {"a": np.random.default_rng(0).normal(size=(2, 2, 5)), "b": np.arange(6, dtype=np.uint8).reshape(2, 3)}
    values |= {"empty": np.zeros((0, 3)), "cells": np.array(["rank", "ü"], object), "other": {"x": 1}}
    scipy_io.savemat(tmp_path / "a.mat", values, do_compression=compressed)
    found = read_mat(tmp_path / "a.mat")
    for name in ("a", "b", "empty"):
        np.testing.assert_array_equal(found[name], values[name])
    assert found["cells"] == ["rank", "ü"] and found["other"] is None


def test_big_endian(tmp_path: Path) -> None:
    def big(kind: int, content: bytes) -> bytes:
        return struct.pack(">II", kind, len(content)) + content

    inner = big(6, struct.pack(">II", 6, 0)) + big(5, struct.pack(">2i", 1, 1)) + struct.pack(">HH4s", 1, 1, b"x\0\0\0")
    (tmp_path / "a.mat").write_bytes(HEADER[:-2] + b"MI" + big(14, inner + big(9, struct.pack(">d", 7))))
    assert read_mat(tmp_path / "a.mat")["x"] == [[7.0]]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no such thing" * 20,
        HEADER + NUMBERS[:40],
        HEADER + NUMBERS[:-8],
        HEADER + element(14, b"\0" * 8),
        HEADER + matrix(6, (2, 4), "x", element(9, bytes(48))),
        HEADER + matrix(6, (-2, -3), "x", element(9, bytes(48))),
        HEADER + packed(NUMBERS)[:-4],
        HEADER + struct.pack("<II", 15, 8) + b"notzlib!",
        HEADER + packed(bytes(LARGEST + 1)),
    ],
)
def test_damaged_or_too_large(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.mat").write_bytes(data)
    with pytest.raises(AnnotationError, match=r"MPII's \.mat file"):
        read_mat(tmp_path / "a.mat")


def test_cells_in_cells_are_not_followed(tmp_path: Path) -> None:
    """A hundred thousand of them end the stack of other readers."""
    head = element(6, struct.pack("<II", 1, 0)) + element(5, struct.pack("<2i", 1, 1)) + element(1, b"")
    parts, size = [NUMBERS], len(NUMBERS)
    for _ in range(100_000):
        size += len(head)
        parts.append(struct.pack("<II", 14, size) + head)
        size += 8
    found = read_mat(write(tmp_path, *reversed(parts)))
    assert found == {"": [None]}
