"""The modules a TorchScript archive describes, as inert objects with their attributes, and the tensors in them by name.

TorchScript pickles a module as an empty object of the class `__torch__.<where it came from>` and a dict of attributes.
The code of these classes lies in other members of the archive, which nobody here reads.
"""

import pickletools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from lite.errors import UnsafeFileError
from lite.models.pickle_machine import Foreign, Machine, Name, TensorRef

# What TorchScript itself writes beside its own classes; there is no reason to let anything else pass, trusted or not.
PACKAGES = ("__torch__", "torch", "collections")
LARGEST_DEPTH = 64  # modules inside each other
MOST_ATTRIBUTES = 200_000  # a crafted file can hold one module in itself twice, and again, and again


@dataclass(eq=False)
class ScriptObject(Foreign):
    """A module of the archive: only its attributes, by name."""

    attributes: dict[str, Any] = field(default_factory=dict)


class ScriptMachine(Machine):
    """A pickle machine that keeps what modules are made of."""

    def name(self, module: Any, name: Any) -> Name:
        if isinstance(module, str) and module.split(".")[0] not in PACKAGES:
            raise UnsafeFileError(
                f"{self.path}: expected the modules of a TorchScript archive, found the name {module}.{name}, "
                "which none contains; do not use this file"
            )
        return super().name(module, name)

    def call(self, function: Any, arguments: Any) -> Any:
        if isinstance(function, Name) and function.module.split(".")[0] == "__torch__":
            return ScriptObject(str(function))
        return super().call(function, arguments)

    def build(self) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], ScriptObject) and isinstance(state, dict):
            self.spend(len(state))
            self.stack[-1].attributes = {name: value for name, value in state.items() if isinstance(name, str)}


def interpret_script(file: BinaryIO, path: Path) -> Any:
    """Run one pickle program of a TorchScript archive and give the object it describes.

    Raises:
        UnsafeFileError: it names something that TorchScript does not write.
    """
    return ScriptMachine(path, trust=True).run(pickletools.genops(file))


def tensors_by_name(root: Any) -> dict[str, TensorRef]:
    """Parameters and buffers of a module and of the modules in it, under dotted names as in a state dict.

    Raises:
        ValueError: not a module, or modules without end.
    """
    if not isinstance(root, ScriptObject):
        raise ValueError("no module in data.pkl")
    found: dict[str, TensorRef] = {}
    seen = 0
    waiting = [("", root, 0)]
    while waiting:
        prefix, module, depth = waiting.pop()
        seen += len(module.attributes)
        if depth > LARGEST_DEPTH or seen > MOST_ATTRIBUTES:
            raise ValueError("modules inside modules without end")
        inner = []
        for name, value in module.attributes.items():
            if isinstance(value, TensorRef):
                found[prefix + name] = value
            elif isinstance(value, ScriptObject):
                inner.append((f"{prefix}{name}.", value, depth + 1))
        waiting += reversed(inner)
    return found
