"""A pickle machine without the power to import or call: what a checkpoint describes, with tensors as references.

A pickle is a small program. `interpret` runs one on a stack and a memo; a global is only ever a `Name`, "calling" it
makes an inert `Foreign`, and only the constructors in `MAKERS` make something real.
"""

import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from lite.errors import UnsafeFileError

STORAGE_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
# Packages whose objects training checkpoints are known to carry; they become `Foreign`. A name from anywhere else is a
# reason to refuse the file, although it would be inert as well: honest checkpoints do not name `os.system`.
HARMLESS_PACKAGES = {
    "argparse", "collections", "copyreg", "datetime", "decimal", "fractions", "lightning", "mmcls", "mmcv", "mmdet",
    "mmengine", "mmpose", "mmpretrain", "mmseg", "numpy", "omegaconf", "pathlib", "pytorch_lightning", "torch", "types",
    "uuid", "yacs",
}  # fmt: skip
HARMLESS_BUILTINS = {
    "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "getattr", "int", "list", "object", "range",
    "set", "slice", "str", "tuple",
}  # fmt: skip
BUILTIN_MODULES = ("builtins", "__builtin__")
# What a crafted file can ask for with few bytes: an empty set is one instruction and takes 216 bytes, a list can serve
# as the argument of many calls, a long name be copied into many objects, a long key be hashed again and again.
MOST_STEPS = 5_000_000  # instructions, and entries that calls copy; the largest honest checkpoints need a tenth
LONGEST_NAME = 300
MOST_DIMS = 64
LONGEST_KEY = 16  # entries of a tuple


@dataclass(frozen=True)
class Name:
    """A global the pickle named; never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Foreign:
    """Stands for an object of another library. It keeps nothing and does nothing."""

    kind: str

    def __repr__(self) -> str:
        return f"<{self.kind}>"


@dataclass(frozen=True)
class StorageRef:
    """A run of numbers in the file: `key` names it, `numel` counts them."""

    dtype: torch.dtype
    key: str
    numel: int


@dataclass(frozen=True)
class TensorRef:
    """A tensor that has not been read yet."""

    storage: StorageRef
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def __post_init__(self) -> None:
        numbers = (self.offset, *self.size, *self.stride)
        counts = all(type(number) is int and 0 <= number < 2**63 for number in numbers)
        if not counts or len(self.size) != len(self.stride) or len(self.size) > MOST_DIMS:
            raise ValueError("a tensor's shape is no list of counts")
        if not isinstance(self.storage, StorageRef):
            raise ValueError("a tensor has no storage")
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.size, self.stride))
        if 0 not in self.size and last >= self.storage.numel:
            raise ValueError("a tensor reaches beyond its storage")


def interpret(file: BinaryIO, path: Path, trust: bool, storages: dict[str, StorageRef] | None = None) -> Any:
    """Run one pickle program and give the object it describes; `storages` collects the storages it names."""
    return Machine(path, trust, storages).run(pickletools.genops(file))


_MARK = object()


class Machine:
    """A pickle machine of stack and memo, without the power to import or call."""

    def __init__(self, path: Path, trust: bool, storages: dict[str, StorageRef] | None = None) -> None:
        self.path = path
        self.trust = trust
        self.storages = {} if storages is None else storages
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.steps = 0

    def run(self, program: Iterator[tuple[Any, Any, int | None]]) -> Any:
        for opcode, argument, _ in program:
            self.spend(1)
            if opcode.name == "STOP":
                return self.stack.pop()
            if opcode.name in _CONSTANTS:
                self.stack.append(argument)
            elif opcode.name in _STEPS:
                _STEPS[opcode.name](self, argument)
            else:
                raise ValueError(f"pickle instruction {opcode.name}")
        raise ValueError("the pickle is cut short")

    def spend(self, steps: int) -> None:
        """Count what the program makes this machine do."""
        self.steps += steps
        if self.steps > MOST_STEPS:
            raise ValueError("the pickle does not end")

    def name(self, module: Any, name: Any) -> Name:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a global without a name")
        if len(module) + len(name) > LONGEST_NAME:
            raise ValueError(f"a name of {len(module) + len(name)} characters")
        harmless = name in HARMLESS_BUILTINS if module in BUILTIN_MODULES else module.split(".")[0] in HARMLESS_PACKAGES
        harmless = harmless or (module, name) == ("_codecs", "encode")
        if not harmless and not self.trust:
            raise UnsafeFileError(
                f"{self.path}: expected tensors, found the name {module}.{name}, which no checkpoint needs; "
                "do not use this file, or pass --trust to read its tensors and ignore the rest"
            )
        return Name(module, name)

    def until_mark(self) -> list[Any]:
        start = len(self.stack) - 1
        while self.stack[start] is not _MARK:
            start -= 1
            if start < 0:
                raise IndexError("no mark")
        items = self.stack[start + 1 :]
        del self.stack[start:]
        return items

    def call(self, function: Any, arguments: Any) -> Any:
        """What a call would have given: something real from `MAKERS`, else a `Foreign`."""
        if not isinstance(arguments, tuple):
            raise ValueError("arguments that are no tuple")
        if isinstance(function, Foreign):
            return Foreign(function.kind)
        if not isinstance(function, Name):
            raise ValueError("a call of something that is no name")
        maker = MAKERS.get((function.module, function.name))
        self.spend(sum(len(one) for one in arguments if isinstance(one, tuple | list | dict)))
        return maker(*arguments) if maker else Foreign(str(function))

    def storage(self, reference: Any) -> StorageRef:
        kind, storage_type, key, _, numel, *view = reference
        if kind != "storage" or not isinstance(storage_type, Name) or any(view):
            raise ValueError("a persistent object that is no storage")
        dtype = STORAGE_DTYPES.get(storage_type.name)
        if storage_type.module not in ("torch", "torch.storage") or dtype is None:
            raise ValueError(f"storage type {storage_type}")
        if not isinstance(key, str) or type(numel) is not int or numel < 0:
            raise ValueError("a storage without key or length")
        return self.storages.setdefault(key, StorageRef(dtype, key, numel))

    # Steps that are more than a line.
    def append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, set):
            target.update(_keys(items))
        elif not isinstance(target, Foreign):
            raise ValueError("items for something that is no list")

    def set_items(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, dict):
            target.update(_pairs(pairs))
        elif not isinstance(target, Foreign):
            raise ValueError("entries for something that is no dict")

    def reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self.call(self.stack[-1], arguments)

    def new_object(self, num_operands: int) -> None:
        operands = self.stack[-num_operands:]
        del self.stack[-num_operands:]
        self.stack.append(self.call(operands[0], operands[1]))

    def instance(self, argument: str) -> None:
        arguments = tuple(self.until_mark())
        self.stack.append(self.call(self.name(*argument.split(" ", 1)), arguments))

    def old_object(self) -> None:
        function, *arguments = self.until_mark()
        self.stack.append(self.call(function, tuple(arguments)))

    def take(self, count: int) -> tuple[Any, ...]:
        if count == 0 or len(self.stack) < count:
            items: tuple[Any, ...] = ()
            if count:
                raise IndexError("stack too short")
        else:
            items = tuple(self.stack[-count:])
            del self.stack[-count:]
        return items

    def build(self) -> None:
        self.stack.pop()  # the state of a foreign object or of an OrderedDict; nobody needs it

    def named_by_stack(self) -> None:
        module, name = self.take(2)
        self.stack.append(self.name(module, name))


def _getattr(owner: Any, name: Any, *default: Any) -> Foreign:
    """mmengine's HistoryBuffer is pickled with look-ups of its own methods; what is looked up is inert as well."""
    if not isinstance(owner, Name | Foreign) or not isinstance(name, str):
        raise ValueError("an attribute of something that is no foreign object")
    return Foreign(f"{owner.kind if isinstance(owner, Foreign) else owner}.{name[:LONGEST_NAME]}"[:LONGEST_NAME])


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    if isinstance(pairs, dict):
        return dict(pairs)
    return _pairs([part for key, value in pairs for part in (key, value)]) if isinstance(pairs, list | tuple) else {}


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> TensorRef:
    return TensorRef(storage, offset, tuple(size), tuple(stride))


def _parameter(data: Any, *_: Any) -> Any:
    return data


# The only names that make something real. Every maker is defined here or is a plain container.
MAKERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    **{(module, "getattr"): _getattr for module in BUILTIN_MODULES},
}

_CONSTANTS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "STRING", "BINSTRING", "SHORT_BINSTRING",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE",
    "BINUNICODE8", "FLOAT", "BINFLOAT",
}  # fmt: skip

_STEPS: dict[str, Callable[[Machine, Any], Any]] = {
    "PROTO": lambda m, a: None,
    "FRAME": lambda m, a: None,
    "NONE": lambda m, a: m.stack.append(None),
    "NEWTRUE": lambda m, a: m.stack.append(True),
    "NEWFALSE": lambda m, a: m.stack.append(False),
    "EMPTY_LIST": lambda m, a: m.stack.append([]),
    "EMPTY_TUPLE": lambda m, a: m.stack.append(()),
    "EMPTY_DICT": lambda m, a: m.stack.append({}),
    "EMPTY_SET": lambda m, a: m.stack.append(set()),
    "MARK": lambda m, a: m.stack.append(_MARK),
    "LIST": lambda m, a: m.stack.append(m.until_mark()),
    "TUPLE": lambda m, a: m.stack.append(tuple(m.until_mark())),
    "TUPLE1": lambda m, a: m.stack.append(m.take(1)),
    "TUPLE2": lambda m, a: m.stack.append(m.take(2)),
    "TUPLE3": lambda m, a: m.stack.append(m.take(3)),
    "DICT": lambda m, a: m.stack.append(_pairs(m.until_mark())),
    "FROZENSET": lambda m, a: m.stack.append(frozenset(_keys(m.until_mark()))),
    "APPEND": lambda m, a: m.append(list(m.take(1))),
    "APPENDS": lambda m, a: m.append(m.until_mark()),
    "ADDITEMS": lambda m, a: m.append(m.until_mark()),
    "SETITEM": lambda m, a: m.set_items(list(m.take(2))),
    "SETITEMS": lambda m, a: m.set_items(m.until_mark()),
    "POP": lambda m, a: m.stack.pop(),
    "POP_MARK": lambda m, a: m.until_mark(),
    "DUP": lambda m, a: m.stack.append(m.stack[-1]),
    "GET": lambda m, a: m.stack.append(m.memo[a]),
    "BINGET": lambda m, a: m.stack.append(m.memo[a]),
    "LONG_BINGET": lambda m, a: m.stack.append(m.memo[a]),
    "PUT": lambda m, a: m.memo.__setitem__(a, m.stack[-1]),
    "BINPUT": lambda m, a: m.memo.__setitem__(a, m.stack[-1]),
    "LONG_BINPUT": lambda m, a: m.memo.__setitem__(a, m.stack[-1]),
    "MEMOIZE": lambda m, a: m.memo.__setitem__(len(m.memo), m.stack[-1]),
    "GLOBAL": lambda m, a: m.stack.append(m.name(*a.split(" ", 1))),
    "STACK_GLOBAL": lambda m, a: m.named_by_stack(),
    "REDUCE": lambda m, a: m.reduce(),
    "NEWOBJ": lambda m, a: m.new_object(2),
    "NEWOBJ_EX": lambda m, a: m.new_object(3),
    "INST": lambda m, a: m.instance(a),
    "OBJ": lambda m, a: m.old_object(),
    "BUILD": lambda m, a: m.build(),
    "BINPERSID": lambda m, a: m.stack.append(m.storage(m.stack.pop())),
}


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(_keys(items[::2]), items[1::2], strict=True))


def _keys(items: list[Any]) -> list[Any]:
    """Items that are quick and safe to hash.

    Python hashes nested tuples without a limit, and a deep one ends the process. The hash of a text is kept, that of a
    tuple or number is computed each time.
    """
    for item in items:
        inner = item if isinstance(item, tuple) else (item,)
        if len(inner) > LONGEST_KEY or any(isinstance(part, tuple | frozenset) for part in inner):
            raise ValueError("a key of nested or long tuples")
        if any(isinstance(part, int) and part.bit_length() > 64 for part in inner):
            raise ValueError("a key of many digits")
    return items
