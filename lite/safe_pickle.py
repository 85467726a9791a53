"""Reads the tensors of a `.pth` file without running anything the file asks for.

`torch.load(weights_only=True)` refuses every pickle that names something outside its list, and with them honest
training checkpoints that log with mmengine or keep NumPy arrays. Here pickles are interpreted by
`lite.models.pickle_machine`, which imports and calls nothing, and tensors stay references until asked for, so that the
optimiser of a 20 GB checkpoint is never read.
"""

import math
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import torch

from lite.errors import CheckpointError
from lite.models.pickle_machine import StorageRef, TensorRef, interpret

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
# What reading a damaged or crafted file may raise.
DAMAGE = (
    RuntimeError,  # an encrypted member
    MemoryError,
    OverflowError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    struct.error,
    EOFError,
    zipfile.BadZipFile,
)
# Numbers a tensor may have beyond its storage: a shape asks for more than the file holds by repeating or having none.
MOST_REPEATED = 2**24


@dataclass
class LazyFile:
    """The object a file holds, with tensors as references, and where the bytes of each storage lie."""

    path: Path
    root: Any
    places: dict[str, tuple[int, int]] = field(default_factory=dict)  # key -> (byte offset, byte count)
    _mapped: torch.UntypedStorage | None = None

    def tensor(self, reference: TensorRef) -> torch.Tensor:
        """Map one tensor from the file (private: writing to it does not change the file).

        Raises:
            CheckpointError: the file ends before the tensor does, or the tensor is far larger than its storage.
        """
        storage = reference.storage
        if math.prod(max(side, 1) for side in reference.size) > max(storage.numel, MOST_REPEATED):
            raise CheckpointError(
                f"{self.path}: expected the tensors of a network, found one of shape {str(reference.size)[:60]}; "
                "do not use this file"
            )
        num_bytes = storage.numel * storage.dtype.itemsize
        start, available = self.places.get(storage.key, (0, -1))
        available = min(available, self.path.stat().st_size - start)
        if available < num_bytes:
            raise CheckpointError(
                f"{self.path}: expected {num_bytes} bytes of weights {storage.key!r}, the file is cut short"
            )
        if num_bytes == 0:
            return torch.empty(reference.size, dtype=storage.dtype)
        if self._mapped is None:
            self._mapped = torch.UntypedStorage.from_file(str(self.path), False, self.path.stat().st_size)
        raw = self._mapped[start : start + num_bytes]
        if start % storage.dtype.itemsize:  # legacy files do not align their numbers
            raw = raw.clone()
        flat = torch.empty(0, dtype=storage.dtype).set_(raw, 0, (storage.numel,), (1,))
        return flat.as_strided(reference.size, reference.stride, reference.offset)


def read_lazily(path: Path, trust: bool = False) -> LazyFile:
    """Interpret a zip or legacy `.pth` file.

    Args:
        trust: let names from unknown packages pass as inert objects instead of refusing the file.

    Raises:
        UnsafeFileError: the pickle names something no checkpoint needs.
        CheckpointError: damaged, cut short, or not a checkpoint.
        OSError: the file cannot be read.
    """
    try:
        if not starts_with(path, b"PK"):
            return _read_legacy(path, trust)
        with path.open("rb") as file:
            return read_stored(path, file, lambda program: interpret(program, path, trust))
    except DAMAGE as problem:
        raise CheckpointError(
            f"{path}: expected a PyTorch checkpoint, found a damaged or foreign file ({problem}); fetch it again"
        ) from problem


def starts_with(path: Path, magic: bytes) -> bool:
    """Whether these are the first bytes of the file."""
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def read_stored(path: Path, file: BinaryIO, run: Callable[[BinaryIO], Any], start: int = 0) -> LazyFile:
    """What a zip file in torch's layout holds: one `data.pkl`, and its storages as members that are stored plainly.

    Args:
        path: the file to map tensors from, and for messages.
        file: the zip file: `path` opened, or the part of it that begins at byte `start`.
        run: interprets the pickle.

    Raises:
        One of `DAMAGE`: it is no such file.
    """
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"{len(pickles)} members named data.pkl")
        prefix = pickles[0].removesuffix("data.pkl")
        needed = tuple(prefix + name for name in ("data.pkl", "data/", "byteorder"))
        stored = {name: info for name, info in members.items() if name.startswith(needed)}
        if any(info.compress_type != zipfile.ZIP_STORED for info in stored.values()):
            raise ValueError("compressed members")
        if f"{prefix}byteorder" in members and archive.read(f"{prefix}byteorder") != b"little":
            raise ValueError("weights are big-endian")
        root = run(BytesIO(archive.read(pickles[0])))
        places = {
            name.removeprefix(f"{prefix}data/"): (start + data_start(file, info), info.file_size)
            for name, info in stored.items()
            if name.startswith(f"{prefix}data/")
        }
    return LazyFile(path, root, places)


def data_start(file: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Byte offset of a stored member's data: behind its local header, whose name and extra field vary in length."""
    file.seek(info.header_offset + 26)
    name_length, extra_length = struct.unpack("<HH", file.read(4))
    return info.header_offset + 30 + name_length + extra_length


def _read_legacy(path: Path, trust: bool) -> LazyFile:
    """Five pickles (magic, version, machine, object, storage keys), then each storage as a count and its numbers."""
    with path.open("rb") as file:
        if interpret(file, path, trust) != LEGACY_MAGIC:
            raise ValueError("no magic number")
        interpret(file, path, trust)
        machine = interpret(file, path, trust)
        if isinstance(machine, dict) and machine.get("little_endian") is False:
            raise ValueError("weights are big-endian")
        storages: dict[str, StorageRef] = {}
        root = interpret(file, path, trust, storages)
        keys = interpret(file, path, trust)
        places = {}
        for key in keys:
            (numel,) = struct.unpack("<q", file.read(8))
            if key not in storages or numel < 0:
                raise ValueError(f"storage {key!r} belongs to no tensor")
            num_bytes = numel * storages[key].dtype.itemsize
            start = file.tell()
            size = path.stat().st_size
            places[key] = (start, min(num_bytes, size - start))
            file.seek(start + num_bytes)
    return LazyFile(path, root, places)
