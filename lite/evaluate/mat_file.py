"""Arrays out of a MATLAB file (version 5), as MPII's own ground truth comes in; nothing in the file is run.

Only what that file needs is read: numbers, texts and cells of them, in bounded memory. General readers follow cells in
cells until the stack ends, and unpack whatever a few bytes claim to be.
Source: MathWorks, "MAT-File Format", level 5.
"""

import itertools
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lite.errors import AnnotationError

LARGEST = 64 * 2**20  # bytes, of the file and of what is unpacked; MPII's has about one million
_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16-{}", 16: "utf-8", 17: "utf-16-{}"}
_CELL, _TEXT, _FIRST_NUMBER, _LAST_NUMBER = 1, 4, 6, 15  # classes of a matrix; what is between or beyond is left out


def read_mat(path: Path) -> dict[str, Any]:
    """The variables of a file: arrays as MATLAB shapes them, texts, and lists of these for cells.

    Raises:
        AnnotationError: damaged, too large, or of another version.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"more than {LARGEST >> 20} MB")
        data = path.read_bytes()
        order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
        if order is None:
            raise ValueError("no MATLAB file of version 5")
        found: dict[str, Any] = {}
        left = LARGEST
        for kind, body in _elements(memoryview(data)[_HEADER:], order):
            if kind == _COMPRESSED:
                unpacker = zlib.decompressobj()
                unpacked = unpacker.decompress(body, left)
                left -= len(unpacked)
                if unpacker.unconsumed_tail or left <= 0:
                    raise ValueError(f"more than {LARGEST >> 20} MB when unpacked")
                kind, body = next(_elements(memoryview(unpacked), order), (0, body))
            if kind == _MATRIX:
                name, value = _matrix(body, order)
                found[name] = value
    except (OSError, ValueError, struct.error, zlib.error) as problem:
        raise AnnotationError(f"{path}: expected MPII's .mat file, cannot read it ({problem!s:.80})") from None
    return found


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Type and content of each element; short ones have both in eight bytes."""
    start = 0
    while start + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, start)
        if kind >> 16:
            kind, size, first = kind & 0xFFFF, kind >> 16, start + 4
            end = start + 8
        else:
            first = start + 8
            end = first + (size if kind == _COMPRESSED else -(-size // 8) * 8)
        if first + size > len(data):
            raise ValueError("it ends early")
        yield kind, data[first : first + size]
        start = end


def _matrix(body: memoryview, order: str, cells: bool = True) -> tuple[str, Any]:
    """Name and value of a matrix; None for what is neither numbers, text nor, where `cells` may be, cells."""
    parts = _elements(body, order)
    head = [content for _, content in itertools.islice(parts, 3)]  # flags, shape, name
    if len(head) < 3:
        raise ValueError("a matrix in it ends early")
    kind = struct.unpack_from(f"{order}I", head[0])[0] & 0xFF
    shape = np.frombuffer(head[1], f"{order}i4").tolist()
    name = bytes(head[2]).decode("latin-1")
    if kind == _CELL and cells:
        return name, [_matrix(content, order, cells=False)[1] for part, content in parts if part == _MATRIX]
    stored, content = next(parts, (0, body[:0]))
    if kind == _TEXT and stored in _TEXTS:
        return name, bytes(content).decode(_TEXTS[stored].format("le" if order == "<" else "be"))
    if not _FIRST_NUMBER <= kind <= _LAST_NUMBER or stored not in _NUMBERS:
        return name, None
    values = np.frombuffer(content, order + _NUMBERS[stored])
    if min(shape, default=-1) < 0 or math.prod(shape) != values.size:
        raise ValueError(f"{name[:40]} has {values.size} numbers where its shape is {shape[:4]}")
    return name, values.reshape(shape, order="F")
