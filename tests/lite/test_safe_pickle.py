"""Hostile and odd pickles: nothing they ask for happens, and each is answered in one sentence."""

import collections
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lite.errors import CheckpointError, UnsafeFileError
from lite.models import pickle_machine
from lite.models.pickle_machine import MAKERS, Foreign, StorageRef, TensorRef
from lite.safe_pickle import LazyFile, read_lazily


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


def write_zip(path: Path, program: bytes, members: dict[str, bytes] | None = None, **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("archive/data.pkl", program)
        for name, data in (members or {}).items():
            archive.writestr(f"archive/{name}", data)
    return path


def write_legacy(path: Path, program: bytes, tail: bytes = b"") -> Path:
    head = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    path.write_bytes(b"".join(head) + program + (tail or pickle.dumps([], 2)))
    return path


def one_sentence(problem: BaseException) -> bool:
    return "\n" not in str(problem) and "Traceback" not in str(problem)


def touch(path: str) -> str:
    return f"touch {path}"


HOSTILE = {
    "os.system": lambda marker: Call(os.system, touch(marker)),
    "eval": lambda marker: Call(eval, f"open({marker!r}, 'w').close()"),
    "exec": lambda marker: Call(exec, f"open({marker!r}, 'w').close()"),
    "open": lambda marker: Call(open, marker, "w"),
    "import": lambda marker: Call(__import__, "os"),
    "subprocess": lambda marker: Call(__import__("subprocess").getoutput, touch(marker)),
}


@pytest.mark.parametrize("attack", ["os.system", "eval", "exec", "open", "subprocess"])
def test_the_attacks_are_real(tmp_path: Path, attack: str) -> None:
    marker = tmp_path / "marker"
    result = pickle.loads(pickle.dumps(HOSTILE[attack](str(marker))))
    if hasattr(result, "close"):
        result.close()
    assert marker.exists()


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("attack", HOSTILE)
@pytest.mark.parametrize("trust", [False, True])
def test_calls_do_not_happen(tmp_path: Path, attack: str, form: str, protocol: int, trust: bool) -> None:
    marker = tmp_path / "marker"
    program = pickle.dumps({"state_dict": {}, "meta": HOSTILE[attack](str(marker))}, protocol)
    file = (write_zip if form == "zip" else write_legacy)(tmp_path / "x.pth", program)
    if trust:
        assert isinstance(read_lazily(file, trust=True).root["meta"], Foreign)
    else:
        with pytest.raises(UnsafeFileError) as caught:
            read_lazily(file)
        assert one_sentence(caught.value)
    assert not marker.exists()


# Programs as bytes, because pickle itself would not write them: `c` global, `(` mark, `t` tuple, `R` call,
# `i` instance, `o` object, `b` build, `.` end, `\x93` global by stack, `\x82` extension, `s` set item.
CHAINS = {
    "getattr chain to builtins": b"c__builtin__\ngetattr\n(ccollections\nOrderedDict\nU\x0b__globals__tR.",
    "getattr of a container": b"c__builtin__\ngetattr\n(}U\x06updatetR.",
    "getattr of a maker": b"c__builtin__\ngetattr\n(ctorch._utils\n_rebuild_tensor_v2\nU\x0b__globals__tRU\x02osR.",
    "instance": b"(S'touch MARKER'\nios\nsystem\n.",
    "old object": b"(cos\nsystem\nS'touch MARKER'\no.",
    "global by stack": b"\x8c\x05posix\x8c\x06system\x93\x8c\x0ctouch MARKER\x85R.",
    "dotted name": b"\x80\x04\x8c\x05torch\x8c\x17serialization.os.system\x93\x8c\x0ctouch MARKER\x85R.",
    "extension registry": b"\x82\x01.",
    "call of a list": b"](tR.",
    "call of a string": b"U\x09os.system(U\x01xtR.",
    "call with a list for arguments": b"ccollections\nOrderedDict\n]R.",
    "state for a maker": b"ctorch._utils\n_rebuild_tensor_v2\n}U\x08__code__U\x01xsb(tR.",
    "global without a name": b"K\x01K\x02\x93.",
    "no end": b"}",
    "empty stack": b".",
    "no mark": b"t.",
    "buffer": b"\x97.",
    "item of a number": b"K\x01K\x02K\x03s.",
    "giant bytes": b"\x8e\xff\xff\xff\xff\xff\xff\xff\x00x.",
    "list as a key": b"}]K\x01s.",
    "deep tuple as a key": b"})" + b"\x85" * 300_000 + b"K\x01s.",
    "deep tuple as a key of pairs": b"ccollections\nOrderedDict\n]]()" + b"\x85" * 300_000 + b"K\x01eaa\x85R.",
    "deep tuple in a set": b"\x8f()" + b"\x85" * 300_000 + b"\x90.",
}


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("trust", [False, True])
def test_crafted_programs_are_inert_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, form: str, trust: bool
) -> None:
    makers = dict(MAKERS)
    file = (write_zip if form == "zip" else write_legacy)(tmp_path / "x.pth", CHAINS[name])
    monkeypatch.chdir(tmp_path)
    try:
        root = read_lazily(file, trust).root
        assert isinstance(root, Foreign)
    except CheckpointError as problem:
        assert one_sentence(problem)
    except UnsafeFileError as problem:
        assert one_sentence(problem) and not trust
    assert not (tmp_path / "MARKER").exists()
    assert makers == MAKERS


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


GREEDY = {
    "sets of one byte each": b"\x8f" * 10_001 + b".",
    "one list for many calls": b"ccollections\nOrderedDict\nq\x000](" + b"K\x01K\x02\x86" * 2000 + b"eq\x01"
    b"0" + b"h\x00h\x01\x85R" * 50 + b".",
    "one long name for many objects": b"ctorch\n" + b"a" * 100_000 + b"\nq\x00)R" + b"h\x00)R" * 5000 + b".",
    "one long key, many times": b"(" + b"K\x01" * 100 + b"tq\x000}(" + b"h\x00N" * 1000 + b"u.",
    "a key of many digits": b"\x8a\x10" + bytes(15) + b"\x01q\x000}(" + b"h\x00N" * 1000 + b"u.",
    "a shape of many numbers": b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQK\x00(" + b"K\x01" * 1000 + b"t(" + b"K\x00" * 1000 + b"ttR.",
}  # fmt: skip


@pytest.mark.parametrize("name", GREEDY)
def test_programs_that_ask_for_much_with_few_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(pickle_machine, "MOST_STEPS", 10_000)
    with pytest.raises(CheckpointError, match=r"does not end|a name of|a key of|no list of counts"):
        read_lazily(write_zip(tmp_path / "x.pth", GREEDY[name]))


def test_names_of_names_do_not_grow(tmp_path: Path) -> None:
    """Each look-up made a name as long as all before it, so that a megabyte became a terabyte."""
    twice = b"h\x00h\x02h\x01\x86Rq\x02"
    program = b"cbuiltins\ngetattr\nq\x000" + text("a" * 1000) + b"q\x010ctorch\nx\nq\x020" + twice * 20 + b"."
    root = read_lazily(write_zip(tmp_path / "x.pth", program)).root
    assert isinstance(root, Foreign) and len(root.kind) <= pickle_machine.LONGEST_NAME


def test_a_pickle_inside_a_torch_storage_is_not_opened(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    inner = b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    inner += pickle.dumps(Call(os.system, touch(str(marker))), 2)
    program = pickle.dumps(Call(torch.storage._load_from_bytes, inner), 2)
    root = read_lazily(write_zip(tmp_path / "x.pth", program)).root
    assert repr(root) == "<torch.storage._load_from_bytes>"
    assert not marker.exists()


def test_foreign_objects_are_inert(tmp_path: Path) -> None:
    program = (
        b"}(U\x06buffercmmengine.logging.history_buffer\nHistoryBuffer\n)\x81}U\x01aK\x01sb"
        b"U\x06methodc__builtin__\ngetattr\n(cmmengine.logging.history_buffer\nHistoryBuffer\nU\x04meantRu."
    )
    root = read_lazily(write_zip(tmp_path / "x.pth", program)).root
    assert repr(root["buffer"]) == "<mmengine.logging.history_buffer.HistoryBuffer>"
    assert repr(root["method"]) == "<mmengine.logging.history_buffer.HistoryBuffer.mean>"
    assert not callable(root["buffer"]) and not callable(root["method"])


def test_arrays_and_scalars_of_numpy_do_not_stop_the_reader(tmp_path: Path) -> None:
    meta = {"sigmas": np.arange(3.0), "epoch": np.int64(3), "path": Path("x"), "count": collections.Counter("ab")}
    torch.save({"state_dict": {"w": torch.arange(4)}, "meta": meta}, tmp_path / "x.pth")
    file = read_lazily(tmp_path / "x.pth")
    assert all(isinstance(value, Foreign) for value in file.root["meta"].values())
    assert torch.equal(file.tensor(file.root["state_dict"]["w"]), torch.arange(4))


DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool,
]  # fmt: skip


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_reads_what_torch_writes(tmp_path: Path, zipped: bool, protocol: int) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    tensors = {
        **{str(dtype): torch.arange(7).to(dtype) for dtype in DTYPES},
        "scalar": torch.tensor(5),
        "empty": torch.empty(0, 3),
        "transposed": base.t(),
        "view": base[1:3, ::2],
        "same storage": base,
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "odd": torch.arange(3, dtype=torch.uint8),  # unaligns what follows in a legacy file
        "after odd": torch.randn(5, dtype=torch.float64),
    }
    path = tmp_path / "x.pth"
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    file = read_lazily(path)
    assert list(file.root) == list(tensors)
    for name, expected in tensors.items():
        found = file.tensor(file.root[name])
        assert found.dtype == expected.dtype and torch.equal(found, expected.detach()), name


def test_writing_to_a_tensor_does_not_change_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"w": torch.zeros(8)}, path)
    before = path.read_bytes()
    file = read_lazily(path)
    file.tensor(file.root["w"]).fill_(1.0)
    assert path.read_bytes() == before


@pytest.mark.parametrize("zipped", [True, False])
def test_cut_short_anywhere(tmp_path: Path, zipped: bool) -> None:
    whole = tmp_path / "whole.pth"
    torch.save({"a": torch.randn(40), "b": torch.randn(40)}, whole, _use_new_zipfile_serialization=zipped)
    data = whole.read_bytes()
    part = tmp_path / "part.pth"
    for length in range(1, len(data), 7):
        part.write_bytes(data[:length])
        with pytest.raises(CheckpointError) as caught:
            file = read_lazily(part)
            [file.tensor(reference) for reference in file.root.values()]
        assert one_sentence(caught.value) and str(part) in str(caught.value)


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (11,), (1,)), (5, (6,), (1,)), (0, (2, 2), (9, 9)), (-1, (1,), (1,)), (0, (-1,), (1,)), (0, (2,), (-1,)),
     (0, (2,), (1, 1)), (0, (True,), (1,)), (0, (2.0,), (1,)), (2**62, (1,), (1,))],
)  # fmt: skip
def test_tensors_beyond_their_storage_are_refused(offset: Any, size: Any, stride: Any) -> None:
    with pytest.raises(ValueError):
        TensorRef(StorageRef(torch.float32, "0", 10), offset, size, stride)


def test_storage_longer_than_its_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(100))
    reference = TensorRef(StorageRef(torch.float32, "0", 10), 0, (10,), (1,))
    for place in ((0, 39), (61, 1000), (1000, 40)):
        with pytest.raises(CheckpointError, match="cut short"):
            LazyFile(path, None, {"0": place}).tensor(reference)
    with pytest.raises(CheckpointError, match="cut short"):
        LazyFile(path, None, {}).tensor(reference)


@pytest.mark.parametrize("size", [(2**70,), (0, 2**70), (1,) * 65])
def test_shapes_beyond_torch_are_none(size: tuple) -> None:
    with pytest.raises(ValueError, match="no list of counts"):
        TensorRef(StorageRef(torch.float32, "0", 10), 0, size, (0,) * len(size))


@pytest.mark.parametrize(("size", "stride"), [((2**25,), (0,)), ((0, 2**40, 2**40), (1, 1, 1))])
def test_tensors_of_absurd_shape_are_refused(tmp_path: Path, size: tuple, stride: tuple) -> None:
    (tmp_path / "x").write_bytes(bytes(40))
    reference = TensorRef(StorageRef(torch.float32, "0", 10), 0, size, stride)
    with pytest.raises(CheckpointError, match="found one of shape"):
        LazyFile(tmp_path / "x", None, {"0": (0, 40)}).tensor(reference)


def test_compressed_members_are_refused(tmp_path: Path) -> None:
    file = write_zip(tmp_path / "x.pth", pickle.dumps({}), {"data/0": bytes(10**6)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="compressed"):
        read_lazily(file)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_big_endian_weights_are_refused(tmp_path: Path, form: str) -> None:
    path = tmp_path / "x.pth"
    if form == "zip":
        write_zip(path, pickle.dumps({}), {"byteorder": b"big"})
    else:
        head = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": False})]
        path.write_bytes(b"".join(head))
    with pytest.raises(CheckpointError, match="big-endian"):
        read_lazily(path)


def test_legacy_storage_counts_are_checked(tmp_path: Path) -> None:
    path = write_legacy(tmp_path / "x.pth", pickle.dumps({}, 2), pickle.dumps(["0"], 2) + struct.pack("<q", 3))
    with pytest.raises(CheckpointError, match="belongs to no tensor"):
        read_lazily(path)
