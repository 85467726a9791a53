"""An ONNX file looked through before a runtime opens it, without any ONNX library.

ONNX itself runs no code, but a file may name operators of plug-ins and weights in files anywhere on the disk, or be
made to exhaust a parser. So only what `hpe-lite export` writes passes: one flat graph of standard operators, with its
spec in the metadata, and weights inside or in the companions whose hashes the JSON holds.
"""

import io
import math
import mmap
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lite.artifact import ArtifactSpec
from lite.backends.artifact_file import (
    SPEC_KEY,
    check_companions,
    check_hash,
    check_inside,
    input_sides,
    open_file,
    output_sides,
)
from lite.errors import ArtifactError, UnsafeFileError

# What a runtime is handed as bytes, so that what it reads is what was looked through; larger ones by their path.
LARGEST_IN_MEMORY = 2**28
MOST_PARTS = 5_000_000  # fields of messages; our largest file has about a hundred thousand
LARGEST_TEXT, MOST_DIMS = 2**20, 64
# Numbers of the fields that may be there (onnx.proto). Not: functions, training, sparse tensors, graphs in attributes.
MODEL, GRAPH, NODE = {1, 2, 3, 4, 5, 6, 7, 8, 14}, {1, 2, 5, 10, 11, 12, 13, 16}, {1, 2, 3, 4, 5, 6, 7, 9}
ATTRIBUTE, TENSOR = {1, 2, 3, 4, 5, 7, 8, 9, 13, 20}, {1, 2, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 16}
# Element types: number -> name and bytes each.
DTYPES = {
    1: ("float32", 4),
    2: ("uint8", 1),
    3: ("int8", 1),
    6: ("int32", 4),
    7: ("int64", 8),
    9: ("bool", 1),
    10: ("float16", 2),
    11: ("float64", 8),
    16: ("bfloat16", 2),
}
_REMEDY = "export the model again"


@dataclass
class _Found:
    """What the file holds."""

    inputs: list[tuple] = field(default_factory=list)
    outputs: list[tuple] = field(default_factory=list)
    metadata: list[tuple[str, str]] = field(default_factory=list)
    dtypes: set[str] = field(default_factory=set)  # of the weights
    files: set[str] = field(default_factory=set)  # that weights lie in


def vet_onnx(path: Path, spec: ArtifactSpec) -> bytes | str:
    """What a runtime may open: the bytes of a small file, the path of a large one or of one with companions.

    Args:
        path: the file. spec: its JSON.

    Raises:
        ArtifactError: the file is damaged or changed, or the JSON describes another one.
        UnsafeFileError: operators that are not standard, weights outside the artifact, or more than one flat graph.
    """
    if not path.is_file():
        raise ArtifactError(f"{path}: expected a file, found something else; {_REMEDY}")
    check_companions(spec, path)
    with open_file(path) as file:
        small = path.stat().st_size <= LARGEST_IN_MEMORY
        data = file.read(LARGEST_IN_MEMORY) if small else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        check_hash(io.BytesIO(data) if small else file, spec, path)
    try:
        found = _read(memoryview(data), path.name)
    except (IndexError, ValueError) as problem:
        raise ArtifactError(f"{path}: expected an ONNX file, found a damaged one ({problem}); {_REMEDY}") from None
    texts = [value for key, value in found.metadata if key == SPEC_KEY]
    check_inside(texts[0] if len(texts) == 1 else None, spec, path)
    _check(found, spec, path)
    return data if small and not found.files else str(path)


def _check(found: _Found, spec: ArtifactSpec, path: Path) -> None:
    """The JSON must describe this file, not only in words."""
    inputs = [("pixels", "uint8", (None, *input_sides(spec)))]
    outputs = [(one.name, one.dtype, (None, *output_sides(one))) for one in spec.outputs]
    reduced = found.dtypes & {"float16", "bfloat16", "int8"}
    mode = next((name for name in ("int8", "bfloat16", "float16") if name in reduced), "float32")
    for part, here, wanted in (
        ("the input", found.inputs, inputs),
        ("the outputs", found.outputs, outputs),
        ("the mode", mode, spec.mode),
        ("the companions", found.files, set(spec.companions)),
    ):
        if here != wanted:
            raise ArtifactError(
                f"{path}: its JSON says of {part} {wanted}, the file has {reprlib.repr(here)}; {_REMEDY}"
            )


def _read(data: memoryview, name: str) -> _Found:
    """Walk through the messages of a model; weights are passed over."""
    parts = [0]
    found = _Found()
    graphs = 0
    for number, value in _fields(data, MODEL, "model", name, parts):
        if number == 7:
            graphs += 1
            _read_graph(value, found, name, parts)
        elif number == 8:
            _refuse_domain(_text(dict(_fields(value, {1, 2}, "operator set", name, parts)).get(1)), name)
        elif number == 14:
            entry = dict(_fields(value, {1, 2}, "metadata", name, parts))
            found.metadata.append((_text(entry.get(1)), _text(entry.get(2))))
    if graphs != 1:
        raise ValueError(f"{graphs} graphs")
    return found


def _read_graph(data: memoryview, found: _Found, name: str, parts: list[int]) -> None:
    for number, value in _fields(data, GRAPH, "graph", name, parts):
        if number == 1:
            for inner, part in _fields(value, NODE, "node", name, parts):
                if inner == 7:
                    _refuse_domain(_text(part), name)
                elif inner == 5:
                    for kind, held in _fields(part, ATTRIBUTE, "attribute", name, parts):
                        if kind == 5:
                            _read_tensor(held, found, name, parts)
        elif number == 5:
            _read_tensor(value, found, name, parts)
        elif number in (11, 12):
            (found.inputs if number == 11 else found.outputs).append(_described(value, name, parts))


def _read_tensor(data: memoryview, found: _Found, name: str, parts: list[int]) -> None:
    """Type, size against what is there, and the file it lies in."""
    dims: list[int] = []
    dtype, raw, typed, outside = 0, None, 0, False
    for number, value in _fields(data, TENSOR, "tensor", name, parts):
        if number == 1:
            dims += _packed(value)
            if len(dims) > MOST_DIMS:
                raise ValueError(f"more than {MOST_DIMS} dimensions")
        elif number == 2:
            dtype = value
        elif number == 9:
            raw = len(_bytes(value))
        elif number in (4, 5, 7, 10, 11):
            typed += len(value) if isinstance(value, memoryview) else 1
        elif number == 13:
            entry = dict(_fields(value, {1, 2}, "external data", name, parts))
            if _text(entry.get(1)) == "location":
                found.files.add(_location(_text(entry.get(2)), name))
        elif number == 14:
            outside = value == 1
    if dtype not in DTYPES:
        raise UnsafeFileError(f"{name}: a tensor of type {dtype}, which our files do not have; {_REMEDY}")
    kind, width = DTYPES[dtype]
    count = math.prod(dims)
    if not outside and (raw != count * width if raw is not None else count > typed):
        raise ValueError(f"a tensor of size {reprlib.repr(dims)} with {typed if raw is None else raw} bytes")
    found.dtypes.add(kind)


def _location(place: str, name: str) -> str:
    """A file in the artifact's own folder."""
    if place in ("", ".", "..") or any(mark in place for mark in "/\\:\0"):
        raise UnsafeFileError(f"{name}: weights in {place[:60]!r}, which is not a file beside it; {_REMEDY}")
    return place


def _described(data: memoryview, name: str, parts: list[int]) -> tuple:
    """(name, dtype, dims) of an input or output; None for a dimension that is open."""
    label, dtype, dims = "", 0, []
    for number, value in _fields(data, {1, 2, 3, 4}, "value", name, parts):
        if number == 1:
            label = _text(value)
        elif number == 2:
            for _, tensor in _fields(value, {1, 6}, "type", name, parts):
                for inner, part in _fields(tensor, {1, 2}, "tensor type", name, parts):
                    if inner == 1:
                        dtype = part
                    else:
                        dims += [
                            dict(_fields(dim, {1, 2, 3}, "dimension", name, parts)).get(1)
                            for _, dim in _fields(part, {1}, "shape", name, parts)
                        ]
    return label, DTYPES.get(dtype, ("unknown", 0))[0], tuple(dims)


def _refuse_domain(domain: str, name: str) -> None:
    if domain not in ("", "ai.onnx"):
        raise UnsafeFileError(f"{name}: operators of {domain[:60]!r}, only standard ones may be in a file; {_REMEDY}")


def _fields(
    data: int | memoryview, allowed: set[int], what: str, name: str, parts: list[int]
) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers and values of one protobuf message: numbers as int, everything else as the bytes it takes."""
    if isinstance(data, int):
        raise ValueError(f"a number where a {what} belongs")
    place, end = 0, len(data)
    while place < end:
        parts[0] += 1
        if parts[0] > MOST_PARTS:
            raise UnsafeFileError(f"{name}: more than {MOST_PARTS} parts, which no file of ours has; {_REMEDY}")
        key, place = _varint(data, place)
        number, wire = key >> 3, key & 7
        if number not in allowed:
            raise UnsafeFileError(f"{name}: field {number} in a {what}, which our files do not have; {_REMEDY}")
        if wire == 0:
            value, place = _varint(data, place)
            yield number, value
            continue
        if wire not in (1, 2, 5):
            raise ValueError(f"wire type {wire}")
        size, place = _varint(data, place) if wire == 2 else (8 if wire == 1 else 4, place)
        if place + size > end:
            raise ValueError(f"a {what} ends too early")
        yield number, data[place : place + size]
        place += size


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("a number of more than ten bytes")


def _packed(value: int | memoryview) -> list[int]:
    """A repeated number, one of it or many in a row."""
    if isinstance(value, int):
        return [value]
    numbers, place = [], 0
    while place < len(value):
        number, place = _varint(value, place)
        numbers.append(number)
        if len(numbers) > MOST_DIMS:
            raise ValueError(f"more than {MOST_DIMS} dimensions")
    return numbers


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where bytes belong")
    return value


def _text(value: int | memoryview | None) -> str:
    if value is not None and len(_bytes(value)) > LARGEST_TEXT:
        raise ValueError("a megabyte where text belongs")
    return "" if value is None else bytes(value).decode("utf-8")
