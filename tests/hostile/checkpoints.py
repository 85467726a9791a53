"""Hostile weights files: pickles that run code or fill the memory, tensors and headers that lie about their bytes."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable

import torch

from tests.hostile.corpus import Kit, Nested, changed, pickles, saved, zipped

# Each takes the kit and gives the bytes of a file.
PTH: dict[str, Callable[[Kit], bytes]] = {}
SAFETENSORS: dict[str, Callable[[Kit], bytes]] = {}
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
PERSISTENT = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"

_KINDS = (*(f"protocol {n}" for n in range(6)), "INST", "OBJ", "dotted name", "BUILD", "after a good one")
for _kind in _KINDS:
    PTH[f"zip, {_kind}"] = lambda kit, k=_kind: changed(
        saved({"a": torch.zeros(2)}), {"data.pkl": pickles(kit.bomb)[k]}
    )
    PTH[f"legacy, {_kind}"] = lambda kit, k=_kind: _legacy(pickles(kit.bomb)[k])
    PTH[f"bare, {_kind}"] = lambda kit, k=_kind: pickles(kit.bomb)[k]
for _number in range(5):
    PTH[f"legacy, bomb in place of pickle {_number}"] = lambda kit, n=_number: _legacy(pickle.dumps({}, 2), n, kit)
for _zip in (True, False):
    _how = "zip" if _zip else "legacy"
    _options = {} if _zip else {"_use_new_zipfile_serialization": False}
    PTH[f"{_how}, in an attribute"] = lambda kit, o=_options: saved({"state_dict": {}, "meta": Nested(kit.bomb)}, **o)
    PTH[f"{_how}, beside good weights"] = lambda kit, o=_options: saved(
        {"state_dict": _good(kit), "x": [kit.bomb]}, **o
    )
    PTH[f"{_how}, among the weights"] = lambda kit, o=_options: saved({**_good(kit), "last": kit.bomb}, **o)
    PTH[f"{_how}, a class that makes itself"] = lambda kit, o=_options: saved(torch.nn.Linear(2, 2), **o)


def _good(kit: Kit) -> dict[str, torch.Tensor]:
    return torch.load(io.BytesIO(kit.pth), weights_only=True)["state_dict"]


def _legacy(root: bytes, spoilt: int | None = None, kit: Kit | None = None) -> bytes:
    """The five pickles of the old format: magic, version, machine, object, storage keys."""
    parts = [pickle.dumps(one, 2) for one in (LEGACY_MAGIC, 1001, {"little_endian": True})] + [
        root,
        pickle.dumps([], 2),
    ]
    if spoilt is not None:
        parts[spoilt] = pickle.dumps(kit.bomb, 2)
    return b"".join(parts)


def _pickled(program: bytes, storage: bytes = bytes(16)) -> Callable[[Kit], bytes]:
    """A zip checkpoint with this pickle and one storage of four numbers."""
    return lambda kit: zipped(
        {"x/data.pkl": program, "x/data/0": storage, "x/byteorder": b"little", "x/version": b"3\n"}
    )


def _tensor(size: bytes, stride: bytes, offset: bytes = b"K\x00", persistent: bytes = PERSISTENT) -> bytes:
    """A state dict of one tensor; the arguments are opcodes."""
    rest = offset + size + stride + b"\x89ccollections\nOrderedDict\n)R"
    return b"\x80\x02}X\x01\x00\x00\x00w(ctorch._utils\n_rebuild_tensor_v2\n(" + persistent + rest + b"tR0"[:2] + b"ds."


def _put(tensor: bytes) -> bytes:
    return tensor.replace(b"w(ctorch", b"wctorch").replace(b"tRds.", b"tRs.")


BIG = b"\x8a\x08" + struct.pack("<q", 2**40)
MINUS = b"J" + struct.pack("<i", -5)
PTH["tensor larger than its storage"] = _pickled(_put(_tensor(b"K\x09\x85", b"K\x01\x85")))
PTH["tensor of a trillion numbers"] = _pickled(_put(_tensor(BIG + b"\x85", b"K\x01\x85")))
PTH["tensor that repeats one number"] = _pickled(_put(_tensor(BIG + BIG + b"\x86", b"K\x00K\x00\x86")))
PTH["tensor of negative size"] = _pickled(_put(_tensor(MINUS + b"\x85", b"K\x01\x85")))
PTH["tensor of negative stride"] = _pickled(_put(_tensor(b"K\x02\x85", MINUS + b"\x85")))
PTH["tensor before its storage"] = _pickled(_put(_tensor(b"K\x02\x85", b"K\x01\x85", MINUS)))
PTH["tensor behind its storage"] = _pickled(_put(_tensor(b"K\x02\x85", b"K\x01\x85", BIG)))
PTH["tensor whose size is text"] = _pickled(_put(_tensor(b"X\x01\x00\x00\x00a\x85", b"K\x01\x85")))
PTH["storage that is not there"] = _pickled(
    _put(_tensor(b"K\x02\x85", b"K\x01\x85", persistent=PERSISTENT.replace(b"\x000X", b"\x009X")))
)
PTH["storage elsewhere"] = _pickled(
    _put(
        _tensor(
            b"K\x02\x85",
            b"K\x01\x85",
            persistent=PERSISTENT.replace(b"\x01\x00\x00\x000", b"\x0b\x00\x00\x00/etc/passwd"),
        )
    )
)
PTH["storage larger than its member"] = _pickled(_put(_tensor(b"K\x04\x85", b"K\x01\x85")), b"")
PTH["storage of another class"] = _pickled(
    _put(_tensor(b"K\x02\x85", b"K\x01\x85", persistent=PERSISTENT.replace(b"torch\nFloatStorage", b"os\nsystem")))
)
PTH["tensor without a storage"] = _pickled(_put(_tensor(b"K\x02\x85", b"K\x01\x85", persistent=b"N")))
PTH["endless levels"] = _pickled(b"\x80\x02" + b"]" * 500_000 + b"a" * 499_999 + b".")
PTH["lists that double"] = _pickled(
    b"\x80\x02](K\x01e"
    + b"".join(b"q" + bytes([n]) + b"0](h" + bytes([n]) + b"h" + bytes([n]) + b"e" for n in range(100))
    + b"."
)
PTH["list in itself"] = _pickled(b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.")
PTH["text of an exabyte"] = _pickled(b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"x.")
PTH["number of many digits"] = _pickled(b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"1.")
PTH["memo of many places"] = _pickled(b"\x80\x02Nr\xff\xff\xff\x7f.")
PTH["stack that is empty"] = _pickled(b"\x80\x020000.")
PTH["no end"] = _pickled(b"\x80\x02}")
PTH["unknown opcode"] = _pickled(b"\x80\x02\xff.")
PTH["extension codes"] = _pickled(b"\x80\x02\x82\x01.")
PTH["a number"] = _pickled(b"\x80\x02K\x01.")
PTH["two pickles"] = lambda kit: zipped({"x/data.pkl": b"\x80\x02}.", "y/data.pkl": pickle.dumps(kit.bomb)})
PTH["compressed pickle bomb"] = lambda kit: zipped(
    {"x/data.pkl": b"\x80\x02" + b"]" * 2**24 + b"."}, zipfile.ZIP_DEFLATED
)
PTH["pickle outside"] = lambda kit: zipped({"../data.pkl": pickle.dumps(kit.bomb)})
PTH["TorchScript"] = lambda kit: kit.script
PTH["nothing"] = lambda kit: b""
PTH["text"] = lambda kit: b"hello\n"
PTH["zeros"] = lambda kit: bytes(1000)
PTH["a tar file"] = lambda kit: _tar(kit)


def _tar(kit: Kit) -> bytes:
    """The format before the old one; torch still reads it, with pickles in each member."""
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("storages", "tensors", "pickle"):
            data = pickle.dumps(kit.bomb, 2)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _header(change: Callable[[dict], None]) -> Callable[[Kit], bytes]:
    """A good safetensors file with its header changed in place."""

    def make(kit: Kit) -> bytes:
        length = int.from_bytes(kit.safetensors[:8], "little")
        header = json.loads(kit.safetensors[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + kit.safetensors[8 + length :]

    return make


def _tensors(header: dict) -> list[dict]:
    return [value for name, value in header.items() if name != "__metadata__"]


def _spec(**values: object) -> Callable[[Kit], bytes]:
    """A good file whose spec says something else."""

    def change(header: dict) -> None:
        spec = json.loads(header["__metadata__"]["hpe_lite_spec"])
        header["__metadata__"]["hpe_lite_spec"] = json.dumps({**spec, **values})

    return _header(change)


def _meta(key: str, text: str) -> Callable[[Kit], bytes]:
    return _header(lambda header: header["__metadata__"].update({key: text}))


SAFETENSORS |= {
    "overlapping": _header(lambda h: _tensors(h)[1].update(data_offsets=_tensors(h)[0]["data_offsets"])),
    "behind the end": _header(lambda h: _tensors(h)[0].update(data_offsets=[2**40, 2**40 + 4])),
    "backwards": _header(lambda h: _tensors(h)[0].update(data_offsets=_tensors(h)[0]["data_offsets"][::-1])),
    "negative": _header(lambda h: _tensors(h)[0].update(data_offsets=[-8, 0])),
    "shape larger than its bytes": _header(lambda h: _tensors(h)[0].update(shape=[10**6, 10**6])),
    "shape that wraps around": _header(lambda h: _tensors(h)[0].update(shape=[2**32, 2**32])),
    "unknown dtype": _header(lambda h: _tensors(h)[0].update(dtype="PICKLE")),
    "no tensors": lambda kit: (2).to_bytes(8, "little") + b"{}",
    "header of an exabyte": lambda kit: (2**60).to_bytes(8, "little") + b"{" + bytes(100),
    "header of 90 MB": lambda kit: (90_000_000).to_bytes(8, "little") + b"{" + bytes(100),
    "header of many levels": lambda kit: (200_001).to_bytes(8, "little") + b"{" + b'"a":[' * 40_000,
    "header that is a list": lambda kit: (2).to_bytes(8, "little") + b"[]",
    "spec of another kind": _meta("hpe_lite_spec", "[1, 2]"),
    "spec that is no JSON": _meta("hpe_lite_spec", "{"),
    "spec of many levels": _meta("hpe_lite_spec", "[" * 100_000),
    "spec with a huge input": _spec(input_hw=[16 * 10**6, 16 * 10**6]),
    "spec with a text input": _spec(input_hw=["64", "48"]),
    "spec with an unknown codec": _spec(codec={"name": "os.system"}),
    "spec with a codec of other arguments": _spec(codec={"name": "udp_heatmap", "run": "x"}),
    "spec with a huge codec": _spec(
        codec={"name": "udp_heatmap", "input_hw": [64, 48], "heatmap_hw": [10**9, 10**9], "blur_kernel": 10**9 + 1}
    ),
    "spec with a codec of text": _spec(codec={"name": "udp_heatmap", "input_hw": "ab", "heatmap_hw": [16, 12]}),
    "spec with a codec of no name": _spec(codec={}),
    "spec with a skeleton elsewhere": _spec(skeleton="../../../../etc/passwd"),
    "spec with a skeleton of no such name": _spec(skeleton="octopus"),
    "spec with another task": _spec(task="detect"),
    "spec with a bare trunk's task": _spec(task="features"),
    "spec with a std of zero": _spec(std=[0.0, 1.0, 1.0]),
    "hints of another kind": _meta("hpe_lite_hints", "[1]"),
    "hints of many heads": _meta("hpe_lite_hints", '{"num_heads": 1000000007, "grid_hw": [4, 3]}'),
    "hints of a huge grid": _meta("hpe_lite_hints", '{"num_heads": 4, "grid_hw": [1000000, 1000000]}'),
    "hints of text": _meta("hpe_lite_hints", '{"num_heads": "4; import os", "grid_hw": "x"}'),
}
