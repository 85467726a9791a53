"""What hostile files are made of. Nothing is kept in the repository: every file is written when a test asks for it."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lite.artifact import ArtifactSpec, sha256_of, write_spec

SIZES = {".pt2": "pt2", ".onnx": "onnx", ".xml": "openvino", ".engine": "tensorrt", ".plan": "tensorrt"}


@dataclass(frozen=True)
class Kit:
    """What a file is made from.

    Attributes:
        folder: where it goes. canary: the file that code from outside would make.
        pt2: a good exported program. pth, legacy, safetensors: good checkpoints. script: a TorchScript archive.
        spec: of `pt2`, without a hash.
    """

    folder: Path
    canary: Path
    pt2: bytes
    pth: bytes
    legacy: bytes
    safetensors: bytes
    script: bytes
    spec: ArtifactSpec

    @property
    def code(self) -> str:
        """An expression that makes the canary."""
        return f"open({str(self.canary)!r}, 'w').close()"

    @property
    def bomb(self) -> "Bomb":
        return Bomb(self.code)

    def write(self, name: str, data: bytes, spec: ArtifactSpec | None = None) -> Path:
        """The file, and a JSON with its hash beside it when it is of a kind that has one."""
        path = self.folder / name
        path.write_bytes(data)
        if path.suffix in SIZES:
            spec = spec or replace(self.spec, format=SIZES[path.suffix])
            write_spec(path, replace(spec, sha256=sha256_of(path)))
        return path


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> tuple:
        return exec, (self.code,)


class Nested:
    """Holds a bomb where pickles keep attributes."""

    def __init__(self, bomb: Bomb) -> None:
        self.inner = {"deeper": [bomb]}


def saved(value: Any, **options: Any) -> bytes:
    """As `torch.save` writes it."""
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def changed(archive: bytes, members: dict[str, bytes | None], compression: int = zipfile.ZIP_STORED) -> bytes:
    """The archive with members (named without its root folder) replaced, added or, with None, left out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(buffer, "w", compression) as new:
        root = old.namelist()[0].split("/")[0]
        names = [name.partition("/")[2] for name in old.namelist()]
        for name in [*names, *(extra for extra in members if extra not in names)]:
            data = members[name] if name in members else old.read(f"{root}/{name}")
            if data is not None:
                new.writestr(f"{root}/{name}", data)
    return buffer.getvalue()


def edited(archive: bytes, member: str, change: Callable[[dict], None]) -> bytes:
    """The archive with a JSON member changed in place."""
    with zipfile.ZipFile(io.BytesIO(archive)) as old:
        root = old.namelist()[0].split("/")[0]
        document = json.loads(old.read(f"{root}/{member}"))
    change(document)
    return changed(archive, {member: json.dumps(document).encode()})


def pickles(bomb: Bomb) -> dict[str, bytes]:
    """One bomb in every protocol, and in opcodes that Python itself no longer writes."""
    code = bomb.code.encode()
    text = b"X" + len(code).to_bytes(4, "little") + code
    written = {f"protocol {number}": pickle.dumps(bomb, number) for number in range(pickle.HIGHEST_PROTOCOL + 1)}
    return {
        **written,
        "INST": b"(" + text + b"ibuiltins\nexec\n.",
        "OBJ": b"(cbuiltins\nexec\n" + text + b"o.",
        "dotted name": b"\x80\x04\x8c\x05torch\x8c\x0fhub.exec.inside\x93" + text + b"\x85R.",
        "BUILD": b"ctorch._utils\n_rebuild_tensor_v2\n}X\x04\x00\x00\x00codecbuiltins\nexec\nsb.",
        "after a good one": pickle.dumps({"a": 1}, 2)[:-1] + b"0" + pickle.dumps(bomb, 2)[2:],
    }


# Exported programs. Each takes the kit and gives the bytes of a `.pt2` whose JSON will have its hash.
PT2: dict[str, Callable[[Kit], bytes]] = {}
SAMPLES, WEIGHTS, CONSTANTS, PROGRAM = (
    "data/sample_inputs/model.pt",
    "data/weights/model_weights_config.json",
    "data/constants/model_constants_config.json",
    "models/model.json",
)


def pt2(name: str) -> Callable[[Callable[[Kit], bytes]], Callable[[Kit], bytes]]:
    def add(make: Callable[[Kit], bytes]) -> Callable[[Kit], bytes]:
        PT2[name] = make
        return make

    return add


for _kind in ("protocol 0", "protocol 2", "protocol 5", "INST", "OBJ", "dotted name", "after a good one"):
    PT2[f"sample inputs, bare pickle, {_kind}"] = lambda kit, k=_kind: changed(kit.pt2, {SAMPLES: pickles(kit.bomb)[k]})
    PT2[f"sample inputs, torch file, {_kind}"] = lambda kit, k=_kind: changed(
        kit.pt2, {SAMPLES: changed(saved(((torch.zeros(1),), {})), {"data.pkl": pickles(kit.bomb)[k]})}
    )
PT2["sample inputs, legacy file"] = lambda kit: changed(
    kit.pt2, {SAMPLES: saved((kit.bomb,), _use_new_zipfile_serialization=False)}
)
PT2["sample inputs, TorchScript"] = lambda kit: changed(kit.pt2, {SAMPLES: kit.script})


def _first(document: dict) -> dict:
    return next(iter(document["config"].values()))


def _pickled(config: str, prefix: str, kit: Kit) -> bytes:
    def change(document: dict) -> None:
        entry = document["config"].setdefault("planted", dict(_entry(kit)))
        entry.update(use_pickle=True, path_name=f"{prefix}_0")

    data = edited(kit.pt2, config, change)
    return changed(data, {f"{config.rsplit('/', 1)[0]}/{prefix}_0": saved(kit.bomb)})


def _entry(kit: Kit) -> dict:
    with zipfile.ZipFile(io.BytesIO(kit.pt2)) as archive:
        root = archive.namelist()[0].split("/")[0]
        return _first(json.loads(archive.read(f"{root}/{WEIGHTS}")))


PT2["weight stored as a pickle"] = lambda kit: _pickled(WEIGHTS, "weight", kit)
PT2["constant stored as a pickle"] = lambda kit: _pickled(CONSTANTS, "tensor", kit)
PT2["custom object"] = lambda kit: _pickled(CONSTANTS, "custom_obj", kit)
PT2["opaque object"] = lambda kit: _pickled(CONSTANTS, "opaque_obj", kit)


@pt2("weight in a file elsewhere")
def _(kit: Kit) -> bytes:
    return edited(kit.pt2, WEIGHTS, lambda document: _first(document).update(path_name="../../../../etc/passwd"))


@pt2("weight larger than its bytes")
def _(kit: Kit) -> bytes:
    def change(document: dict) -> None:
        _first(document)["tensor_meta"]["sizes"] = [{"as_int": 10**6}, {"as_int": 10**6}]

    return edited(kit.pt2, WEIGHTS, change)


@pt2("weight that begins outside its bytes")
def _(kit: Kit) -> bytes:
    def change(document: dict) -> None:
        _first(document)["tensor_meta"]["storage_offset"] = {"as_int": 2**40}

    return edited(kit.pt2, WEIGHTS, change)


@pt2("weight with strides outside its bytes")
def _(kit: Kit) -> bytes:
    def change(document: dict) -> None:
        meta = _first(document)["tensor_meta"]
        meta["strides"] = [{"as_int": 2**30} for _ in meta["strides"]]

    return edited(kit.pt2, WEIGHTS, change)


@pt2("weight with negative strides")
def _(kit: Kit) -> bytes:
    def change(document: dict) -> None:
        meta = _first(document)["tensor_meta"]
        meta["strides"] = [{"as_int": -(2**20)} for _ in meta["strides"]]

    return edited(kit.pt2, WEIGHTS, change)


def _values(document: dict) -> dict:
    return document["graph_module"]["graph"]["tensor_values"]


def _sized(document: dict) -> dict:
    return next(value for value in _values(document).values() if "as_expr" in value["sizes"][0])


def _program(name: str, change: Callable[[dict, Kit], None]) -> None:
    PT2[name] = lambda kit: edited(kit.pt2, PROGRAM, lambda document: change(document, kit))


def _nodes(document: dict) -> list[dict]:
    return document["graph_module"]["graph"]["nodes"]


for _target in (
    "torch.hub.load", "os.system", "builtins.eval", "torch.load", "torch.ops.aten.from_file.default",
    "torch.ops.aten.save.default", "torch.ops.aten.set_.source_Tensor", "torch.ops.higher_order.cond",
    "torch.ops.higher_order.call_torchbind", "torch.ops.mkldnn._linear_pointwise.default", "_operator.methodcaller",
    "torch.ops.aten.__class__.__mro__", "math.factorial", "#x:y",
):  # fmt: skip
    _program(f"operator {_target}", lambda document, kit, t=_target: _nodes(document)[0].update(target=t))
_program(
    "operator as an argument",
    lambda document, kit: _nodes(document)[0]["inputs"][0].update(arg={"as_operator": "torch.hub.load"}),
)
for _way, _guard in (("power", "9**9**9 >= 1"), ("shift", "1<<999999999 >= 1"), ("long", "+1" * 600)):
    _program(f"guard with a {_way}", lambda document, kit, guard=_guard: document.update(guards_code=[guard]))
_program("guard", lambda document, kit: document.update(guards_code=[f"{kit.code} is None"]))
_program(
    "guard behind a good one",
    lambda document, kit: document.update(guards_code=[f"L['pixels'].size()[0] <= 8 and {kit.code}"]),
)
_program("size expression", lambda document, kit: _sized(document)["sizes"][0]["as_expr"].update(expr_str=kit.code))
_program(
    "size expression, sympy",
    lambda document, kit: _sized(document)["sizes"][0]["as_expr"].update(
        expr_str=f"Symbol('s0').__class__({kit.code})"
    ),
)
_program(
    "size expression that is a tower",
    lambda document, kit: _sized(document)["sizes"][0]["as_expr"].update(expr_str="9**9**9**9"),
)
_program(
    "size expression that is long",
    lambda document, kit: _sized(document)["sizes"][0]["as_expr"].update(expr_str="+".join(["1"] * 10**5)),
)
_program(
    "node name",
    lambda document, kit: next(o for n in _nodes(document) for o in n["outputs"] if "as_tensor" in o)[
        "as_tensor"
    ].update(name=f"x = {kit.code}"),
)
_program("tensor name", lambda document, kit: _values(document).update({f"x; {kit.code}": _sized(document)}))
_program(
    "container",
    lambda document, kit: document["graph_module"]["module_call_graph"][0]["signature"].update(
        in_spec=json.dumps([1, {"type": "collections.defaultdict", "context": "[]", "children_spec": []}])
    ),
)
_program(
    "container of many levels",
    lambda document, kit: document["graph_module"]["module_call_graph"][0]["signature"].update(
        in_spec='{"type":null,"context":null,"children_spec":[' * 3000
    ),
)
_program("no graph", lambda document, kit: document.clear())
_program("schema of the future", lambda document, kit: document.update(schema_version={"major": 99, "minor": 0}))
_program(
    "range constraint",
    lambda document, kit: document.update(range_constraints={"s0": {"min_val": 0, "max_val": 10**30}}),
)
PT2["program of many levels"] = lambda kit: changed(kit.pt2, {PROGRAM: b'{"a":' * 100_000 + b"1" + b"}" * 100_000})
PT2["second program"] = lambda kit: changed(kit.pt2, {"models/other.json": b"{}"})
PT2["machine code"] = lambda kit: changed(kit.pt2, {"data/aotinductor/model/x.so": b"\x7fELF"})
PT2["library"] = lambda kit: changed(kit.pt2, {"extra/x.so": b"\x7fELF"})
PT2["extra member"] = lambda kit: changed(kit.pt2, {"extra/notes.pkl": pickle.dumps(kit.bomb)})
PT2["TorchScript"] = lambda kit: kit.script
PT2["TorchScript beside a program"] = lambda kit: changed(
    kit.pt2, {"constants.pkl": pickle.dumps(kit.bomb), "code/x.py": b""}
)
PT2["checkpoint"] = lambda kit: kit.pth
PT2["archive of another kind"] = lambda kit: zipped({"a/b.txt": b"hello"})
PT2["no members"] = lambda kit: zipped({})
for _name in (
    "../outside",
    "data/../../../x",
    "/etc/passwd",
    "data//weights/weight_9",
    "c:/x",
    "data\\weights",
    "a\x00b",
):
    PT2[f"member {_name!r}"] = lambda kit, n=_name: changed(kit.pt2, {n: b"x"})
PT2["compressed members"] = lambda kit: changed(kit.pt2, {}, zipfile.ZIP_DEFLATED)
PT2["zip bomb"] = lambda kit: changed(kit.pt2, {"data/weights/weight_999": bytes(2**27)}, zipfile.ZIP_DEFLATED)
PT2["bzip2 member"] = lambda kit: changed(kit.pt2, {"data/weights/weight_999": bytes(2**20)}, zipfile.ZIP_BZIP2)
PT2["nested archive"] = lambda kit: changed(kit.pt2, {"data/weights/nested.zip": kit.pt2})
PT2["member given twice"] = lambda kit: changed(kit.pt2, {}) and _twice(kit.pt2)
PT2["link"] = lambda kit: _linked(kit.pt2)
PT2["bytes in front"] = lambda kit: b"#!/bin/sh\n" + kit.pt2
PT2["bytes behind"] = lambda kit: kit.pt2 + b"more"
PT2["huge declared size"] = lambda kit: _declared(kit.pt2)
PT2["many members"] = lambda kit: changed(kit.pt2, {f"extra/{n}": b"" for n in range(11_000)})
PT2["nothing"] = lambda kit: b""
PT2["text"] = lambda kit: b"hello\n"
PT2["the letters PK"] = lambda kit: b"PK\x03\x04" + bytes(100)


def _twice(archive: bytes) -> bytes:
    import warnings

    buffer = io.BytesIO(archive)
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "a") as new:
        warnings.simplefilter("ignore")
        new.writestr(f"{new.namelist()[0].split('/')[0]}/{PROGRAM}", b"{}")
    return buffer.getvalue()


def _linked(archive: bytes) -> bytes:
    buffer = io.BytesIO(archive)
    with zipfile.ZipFile(buffer, "a") as new:
        link = zipfile.ZipInfo(f"{new.namelist()[0].split('/')[0]}/data/weights/weight_99")
        link.external_attr = 0o120777 << 16
        new.writestr(link, "/etc/passwd")
    return buffer.getvalue()


def _declared(archive: bytes) -> bytes:
    """The last member of the central directory claims 4 GB."""
    data = bytearray(archive)
    entry = data.rfind(b"PK\x01\x02")
    data[entry + 20 : entry + 28] = b"\xf0\xff\xff\xff" * 2
    return bytes(data)
