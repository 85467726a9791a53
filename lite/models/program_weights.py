"""Weights of files that are programs: TorchScript archives and `torch.export` programs, without the program.

Sapiens-Lite publishes its networks as `x_torchscript.pt2` and `x_bfloat16.pt2`. Torch does not open them here: names
and places of the tensors are read from the archive, and our own network is built from them as from a `.pth`. So no code
of the file runs, not even of a TorchScript archive, which is accepted only with `--trust` all the same: it is code.

Layouts of `torch.export.save`: since 2.9 one member for each weight and a JSON with names and shapes; in 2.8 one
`torch.save` file of all weights in the archive; before that the same under two other names, in a plain zip.
"""

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Literal

import torch

from lite.artifact import read_spec, spec_path
from lite.errors import CheckpointError, UnsafeFileError
from lite.models.pickle_machine import StorageRef, TensorRef, interpret
from lite.models.script_machine import interpret_script, tensors_by_name
from lite.safe_pickle import DAMAGE, LazyFile, data_start, read_stored, starts_with

# `torch._export.serde.schema.ScalarType`
DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
WEIGHTS_JSON = re.compile(r"data/weights/[^/]+_weights_config\.json")
WEIGHTS_INSIDE = re.compile(r"data/weights/[^/]+\.pt|serialized_state_dict\.(?:pt|json)")
PROGRAM_MEMBERS = {"archive_format", "serialized_exported_program.json", "model.json"}
LARGEST_TEXT = 64 * 2**20  # bytes
WRAPPERS = ("_orig_mod.", "module.", "model.", "network.")  # a network that was wrapped before it was traced
NOT_WEIGHTS = ("data_preprocessor.",)  # mmpose keeps mean and deviation in the network; ours are in the spec
ADVICE = "give the .pth it was made from"


def program_kind(path: Path) -> Literal["torchscript", "program"] | None:
    """What kind of program a zip file is; None for weights files and for anything that is no zip file.

    Raises:
        CheckpointError: empty, or a damaged zip file.
        OSError: the file cannot be read.
    """
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path}: expected a weights file, found an empty file; fetch it again")
    if not starts_with(path, b"PK"):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as problem:
        raise CheckpointError(
            f"{path}: expected a PyTorch checkpoint, found a damaged or truncated file ({problem}); fetch it again"
        ) from problem
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        return "torchscript"
    parts = {part for name in names for part in name.split("/")}
    return "program" if parts & PROGRAM_MEMBERS or any("data/aotinductor/" in name for name in names) else None


def read_program(path: Path, kind: Literal["torchscript", "program"], trust: bool = False) -> LazyFile:
    """The weights of a program; `root` is a dict from names, as in a state dict, to references.

    Args:
        trust: needed for TorchScript. Even then its code is neither read nor run, and a pickle that names anything
            TorchScript does not write is refused.

    Raises:
        ArtifactError: a file this project exported, whose JSON is missing.
        CheckpointError: damaged, or with weights that cannot be found.
        UnsafeFileError: TorchScript without trust, or a pickle with names that have no business there.
    """
    if kind == "torchscript" and not trust:
        raise UnsafeFileError(
            f"{path}: expected weights, found a TorchScript archive, which is code; pass --trust to read its weights "
            f"(the code is not run even then), or {ADVICE}"
        )
    try:
        with path.open("rb") as file:
            found = _read_script(path, file) if kind == "torchscript" else _read_exported(path, file)
    except DAMAGE as problem:
        raise CheckpointError(
            f"{path}: expected a {'TorchScript archive' if kind == 'torchscript' else 'torch.export program'} with its "
            f"weights, found a damaged one or one of an unknown layout ({problem}); {ADVICE}"
        ) from problem
    named = isinstance(found and found.root, dict) and all(isinstance(name, str) for name in found.root)
    if found is None or (named and kind == "program" and any(name.startswith("network.") for name in found.root)):
        _refuse_own(path)
    if named:
        found.root = _published_names(found.root)
    if not found.root:
        raise CheckpointError(f"{path}: expected a program with named weights, found none (frozen?); {ADVICE}")
    return found


def _read_script(path: Path, file: BinaryIO) -> LazyFile:
    found = read_stored(path, file, lambda program: interpret_script(program, path))
    with zipfile.ZipFile(file) as archive:  # constants are not needed, but a pickle that asks for `os.system` tells
        for name in archive.namelist():
            if name.count("/") == 1 and name.endswith("/constants.pkl"):
                interpret_script(io.BytesIO(_read(archive, archive.getinfo(name))), path)
    found.root = tensors_by_name(found.root)
    return found


def _read_exported(path: Path, file: BinaryIO) -> LazyFile | None:
    """The weights of a `torch.export` program; None for compiled packages, which hold machine code instead."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        rooted = any(info.filename.endswith("/archive_format") for info in members)
        inner = {info.filename.partition("/")[2] if rooted else info.filename: info for info in members}
        if any(name.startswith("data/aotinductor/") for name in inner):
            return None
        configs = [name for name in inner if WEIGHTS_JSON.fullmatch(name)]
        files = [name for name in inner if WEIGHTS_INSIDE.fullmatch(name)]
        if len(configs) + len(files) != 1:
            raise ValueError(f"{len(configs) + len(files)} members with weights")
        if configs:
            config = json.loads(_read(archive, inner[configs[0]]))
            references = _references(config["config"], {n: info for n, info in inner.items() if "data/weights/" in n})
            places = {r.storage.key: inner[f"data/weights/{r.storage.key}"] for r in references.values()}
            return LazyFile(
                path, references, {key: (data_start(file, info), info.file_size) for key, info in places.items()}
            )
    info = inner[files[0]]
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError("compressed members")
    start = data_start(file, info)
    part = io.BufferedReader(_Part(file, start, info.file_size))
    return read_stored(path, part, lambda program: interpret(program, path, trust=False), start)


def _references(config: dict[str, Any], members: dict[str, zipfile.ZipInfo]) -> dict[str, TensorRef]:
    """Names to tensors, as the JSON of the archive describes them."""
    references = {}
    for name, payload in config.items():
        if payload["use_pickle"] is not False:
            raise ValueError(f"weight {name:.60} is a pickle")
        info, meta = members[f"data/weights/{payload['path_name']}"], payload["tensor_meta"]
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError("compressed members")
        dtype = DTYPES[meta["dtype"]]
        storage = StorageRef(dtype, payload["path_name"], info.file_size // dtype.itemsize)
        size, stride = (tuple(number["as_int"] for number in meta[part]) for part in ("sizes", "strides"))
        references[name] = TensorRef(storage, meta["storage_offset"]["as_int"], size, stride)
    return references


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.file_size > LARGEST_TEXT or info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{info.filename} is compressed or larger than {LARGEST_TEXT} bytes")
    return archive.read(info)


def _published_names(root: dict[str, Any]) -> dict[str, Any]:
    """Names as in the `.pth`: without what wrapped the network, and without what is no weight."""
    for _ in WRAPPERS:
        root = {name: value for name, value in root.items() if not name.startswith(NOT_WEIGHTS)}
        wrapper = next((wrapper for wrapper in WRAPPERS if all(name.startswith(wrapper) for name in root)), "")
        root = {name.removeprefix(wrapper): value for name, value in root.items()}
    return root


def _refuse_own(path: Path) -> None:
    """Our own exported files are graphs from pixels to coordinates, which only their JSON describes.

    Raises:
        ArtifactError: the JSON is missing.
        CheckpointError: it is there, so the file is an artifact and no checkpoint.
    """
    if not spec_path(path).is_file():
        read_spec(path)
    raise CheckpointError(
        f"{path}: expected a weights file, found an exported program with its JSON; name it as --model of infer or "
        f"eval, or {ADVICE}"
    )


class _Part(io.RawIOBase):
    """Part of an open file as a file of its own: `size` bytes from byte `start` on."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if at < 0:
            raise ValueError("a place before the part begins")
        self._at = at
        return at

    def readinto(self, buffer: memoryview) -> int:
        self._file.seek(self._start + self._at)
        count = self._file.readinto(memoryview(buffer)[: max(self._size - self._at, 0)])
        self._at += count
        return count
