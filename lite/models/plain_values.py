"""Python assignments of plain values, evaluated from the syntax tree; nothing is executed.

Values are never changed once made, so names share them; who merges or changes them copies first.

Read are literals, `dict(...)`, earlier names, arithmetic, items, and the references to a base that mmengine's
configuration files use (`_base_.name`, `{{_base_.name}}`). Anything else is refused with its line.
"""

import ast
import operator
import re
from pathlib import Path
from typing import Any

from lite.errors import ConfigError

LONGEST_SEQUENCE = 10000
LARGEST_WHOLE_NUMBER = 1 << 64
_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}
_BASE_REFERENCE = re.compile(r"^\{\{\s*_base_\.([\w.]+)\s*\}\}$")


class PlainValues:
    """Evaluates the assignments of one file in order.

    Args:
        path: the file, for messages and `{{ fileDirname }}`.
        base: what `_base_.name` refers to; may be filled after construction.

    Attributes:
        names: what the file has assigned so far.
    """

    def __init__(self, path: Path, base: dict[str, Any]) -> None:
        self.path = path
        self.base = base
        self.names: dict[str, Any] = {}

    def run(self, statement: ast.stmt) -> None:
        name = assigned_name(statement)
        if name is not None:
            self.names[name] = self.value(statement.value)
        elif not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
            self.refuse(statement, "only assignments of plain values are read")

    def value(self, node: ast.expr) -> Any:
        """The value of an expression; what is not plain is refused."""
        match node:
            case ast.Constant(value=str(text)):
                reference = _BASE_REFERENCE.match(text)
                return self.from_base(node, reference[1]) if reference else self.fill_in(text)
            case ast.Constant(value=value):
                return value
            case ast.Tuple(elts=items):
                return tuple(self.value(item) for item in items)
            case ast.List(elts=items):
                return [self.value(item) for item in items]
            case ast.Set(elts=[ast.Set(elts=[inner])]):  # how `{{_base_.name}}` looks to Python's parser
                return self.value(inner)
            case ast.Dict(keys=keys, values=values):
                return self.mapping(node, zip(keys, values))
            case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
                return self.mapping(node, ((k.arg and ast.Constant(k.arg), k.value) for k in keywords))
            case ast.Name(id=name):
                if name not in self.names:
                    self.refuse(node, f"{name} is not defined above")
                return self.names[name]
            case ast.Attribute():
                return self.from_base(node, self.dotted(node))
            case ast.Subscript(value=of, slice=index):
                return self.item(node, self.value(of), self.value(index))
            case ast.UnaryOp(op=op, operand=operand):
                return self.compute(node, op, self.value(operand))
            case ast.BinOp(op=op, left=left, right=right):
                return self.compute(node, op, self.value(left), self.value(right))
        self.refuse(node, f"`{ast.unparse(node)[:60]}` is not a plain value")

    def mapping(self, node: ast.expr, pairs: Any) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for key, value in pairs:
            found = self.value(value)
            if key is None:  # **other
                if not isinstance(found, dict):
                    self.refuse(node, "** needs a dict")
                result.update(found)
            else:
                result[self.item_key(node, self.value(key))] = found
        return result

    def item_key(self, node: ast.expr, key: Any) -> Any:
        return key if isinstance(key, str | int | float | bool | None) else self.refuse(node, "a key must be a string")

    def item(self, node: ast.expr, of: Any, index: Any) -> Any:
        try:
            return of[index]
        except (TypeError, KeyError, IndexError) as problem:
            self.refuse(node, f"there is no such item ({problem})")

    def compute(self, node: ast.expr, op: ast.operator | ast.unaryop, *values: Any) -> Any:
        lengths = [len(value) for value in values if isinstance(value, str | list | tuple)]
        times = [value for value in values if isinstance(value, int)]
        if lengths and (isinstance(op, ast.Mod) or sum(lengths) * max([1, *times]) > LONGEST_SEQUENCE):
            self.refuse(node, f"`{ast.unparse(node)[:60]}` formats text or makes more than {LONGEST_SEQUENCE} items")
        if any(abs(value) > LARGEST_WHOLE_NUMBER for value in times):
            self.refuse(node, "it computes with a number beyond all use")
        try:
            return _OPERATORS[type(op)](*values)
        except (TypeError, KeyError, ZeroDivisionError, OverflowError) as problem:
            self.refuse(node, f"`{ast.unparse(node)[:60]}` cannot be computed ({problem})")

    def dotted(self, node: ast.Attribute) -> str:
        """`_base_.a.b` -> "a.b"."""
        parts = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        if not (isinstance(inner, ast.Name) and inner.id == "_base_"):
            self.refuse(node, f"`{ast.unparse(node)[:60]}` is not a plain value")
        return ".".join(reversed(parts))

    def from_base(self, node: ast.expr, dotted: str) -> Any:
        found: Any = self.base
        for part in dotted.split("."):
            if not isinstance(found, dict) or part not in found:
                self.refuse(node, f"no base defines {dotted}")
            found = found[part]
        return found

    def fill_in(self, text: str) -> str:
        """Replace `{{ fileDirname }}` and its kin."""
        known = {
            "fileDirname": str(self.path.parent),
            "fileBasename": self.path.name,
            "fileBasenameNoExtension": self.path.stem,
            "fileExtname": self.path.suffix,
        }
        return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda m: known.get(m[1], m[0]), text)

    def refuse(self, node: ast.AST, why: str) -> Any:
        raise ConfigError(
            f"{self.path}, line {getattr(node, 'lineno', '?')}: {why}; the file is read without running it, "
            "write the values out"
        )


def assigned_name(statement: ast.stmt) -> str | None:
    """The name a plain assignment sets."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name
        case ast.AnnAssign(target=ast.Name(id=name), value=value) if value is not None:
            return name
    return None
