"""An OpenVINO model looked through before the runtime opens it: `x.xml`, the graph, and `x.bin`, its weights.

The format itself runs no code, but XML has entities that grow without bound, a graph may name operators of plug-ins,
and the runtime takes sizes and places of weights on trust. So only what `hpe-lite export` writes passes: standard
operators, edges between ports that exist, weights that lie in the file beside it.
"""

import io
import math
import re
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np

from lite.artifact import ArtifactSpec
from lite.backends.artifact_file import SPEC_KEY, check_companions, check_hash, check_inside
from lite.errors import ArtifactError, UnsafeFileError

LARGEST_XML, MOST_ELEMENTS, MOST_DEPTH, MOST_DIMS = 2**26, 2_000_000, 12, 64
# Bytes of each element type that our files have.
WIDTHS = {"boolean": 1, "i8": 1, "u8": 1, "i32": 4, "i64": 8, "u64": 8, "f16": 2, "bf16": 2, "f32": 4}
# The operators of every family and mode, and the likes of them: they compute and do nothing else.
_NAMES = (
    "Abs Add AvgPool Broadcast Ceiling Clamp Concat Const Convert ConvertLike Convolution ConvolutionBackpropData "
    "DepthToSpace Divide Elu Equal Erf Exp FakeQuantize Floor FloorMod Gather GatherElements Gelu Greater GreaterEqual "
    "GroupConvolution GroupConvolutionBackpropData GroupNormalization HSigmoid HSwish HardSigmoid Interpolate IsFinite "
    "IsInf IsNaN Less LessEqual Log LogicalAnd LogicalNot LogicalOr MVN MatMul MaxPool Maximum Minimum Mod Multiply "
    "Negative NotEqual Pad Parameter Power Range ReLU ReduceLogicalAnd ReduceLogicalOr ReduceMax ReduceMean ReduceMin "
    "ReduceSum Reshape Result Round ScaledDotProductAttention ScatterElementsUpdate ScatterNDUpdate Select ShapeOf "
    "Sigmoid Sign Slice SoftMax SoftPlus Split Sqrt Squeeze StridedSlice Subtract Swish Tanh Tile TopK Transpose "
    "Unsqueeze VariadicSplit"
)
OPERATORS = frozenset(_NAMES.split())
_REMEDY = "export the model again"


def read_model(core: Any, path: Path, spec: ArtifactSpec) -> tuple[Any, np.ndarray]:
    """The vetted model, and its weights: the file as memory, which must outlive all that is made of the model.

    Args:
        core: an `openvino.Core`. path: the .xml. spec: its JSON.

    Raises:
        ArtifactError: a file is missing, damaged or changed, or the JSON describes another one.
        UnsafeFileError: a document type, operators that are not standard, or weights outside the file.
    """
    from openvino import Tensor

    weights = path.with_suffix(".bin")
    if set(spec.companions) != {weights.name}:
        raise ArtifactError(
            f"{path}: expected {weights.name} as its other file in the JSON, found {sorted(spec.companions)}; give a "
            f"renamed file its old name back, or {_REMEDY}"
        )
    check_companions(spec, path)
    try:
        if path.stat().st_size > LARGEST_XML:
            raise UnsafeFileError(f"{path}: more than {LARGEST_XML} bytes, which no graph of ours has; {_REMEDY}")
        text = path.read_bytes()
        check_hash(io.BytesIO(text), spec, path)
        stored = np.memmap(weights, np.uint8, mode="c")
    except (OSError, ValueError) as problem:
        raise ArtifactError(f"{path}: cannot be read ({problem}); check both files and their permissions") from None
    described = vet_xml(text, len(stored), path.name)
    check_inside(described, spec, path)
    return core.read_model(text, Tensor(stored, shared_memory=True)), stored


def vet_xml(text: bytes, weight_bytes: int, name: str) -> str:
    """Look through the graph; returns what the model says of itself, as it stands in the file.

    Raises:
        ArtifactError: it is damaged. UnsafeFileError: it is not what an export writes.
    """
    reader = _Reader(weight_bytes, name)
    parser = expat.ParserCreate()
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    for forbidden in ("StartDoctypeDeclHandler", "EntityDeclHandler", "ProcessingInstructionHandler"):
        setattr(parser, forbidden, reader.refuse)
    try:
        parser.Parse(text, True)
        reader.check_edges()
    except (expat.ExpatError, KeyError, ValueError) as problem:
        raise ArtifactError(f"{name}: expected an OpenVINO graph, found a damaged one ({problem}); {_REMEDY}") from None
    return reader.described


class _Reader:
    """Follows the elements of a graph."""

    def __init__(self, weight_bytes: int, name: str) -> None:
        self.weight_bytes, self.name = weight_bytes, name
        self.path: list[str] = []
        self.elements = 0
        self.described = ""
        self.layer: dict[str, str] = {}
        self.has_data = False
        self.ports: dict[str, dict[str, set[str]]] = {}  # layer -> "input" and "output" -> ports
        self.edges: list[dict[str, str]] = []

    def refuse(self, *_: object) -> None:
        raise UnsafeFileError(f"{self.name}: a document type, entity or instruction in the XML; {_REMEDY}")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.elements += 1
        self.path.append(tag)
        if self.elements > MOST_ELEMENTS or len(self.path) > MOST_DEPTH:
            raise UnsafeFileError(f"{self.name}: more elements than any graph of ours has; {_REMEDY}")
        place = "/".join(self.path)
        if place == "net/layers/layer":
            self._layer(attributes)
        elif place == "net/layers/layer/data":
            self.has_data = True
            if self.layer["type"] == "Const":
                self._constant(attributes)
        elif place in ("net/layers/layer/input/port", "net/layers/layer/output/port"):
            self.ports[self.layer["id"]][self.path[-2]].add(attributes["id"])
        elif place == "net/edges/edge":
            self.edges.append(attributes)
        elif place == f"net/rt_info/{SPEC_KEY}":
            self.described = attributes["value"]
        elif tag in ("layers", "layer", "edges", "body", "port_map", "back_edges") and len(self.path) > 2:
            raise UnsafeFileError(f"{self.name}: a graph inside an operator; {_REMEDY}")
        elif self.path[0] != "net":
            raise ValueError(f"it begins with {tag[:60]!r}")

    def end(self, tag: str) -> None:
        if "/".join(self.path) == "net/layers/layer" and self.layer["type"] == "Const" and not self.has_data:
            raise ValueError("a constant without data")
        self.path.pop()

    def _layer(self, attributes: dict[str, str]) -> None:
        kind, version = attributes["type"], attributes["version"]
        if kind not in OPERATORS or not re.fullmatch(r"opset\d{1,2}", version):
            raise UnsafeFileError(
                f"{self.name}: operator {kind[:60]!r} of {version[:60]!r} is not one of those this project's graphs "
                f"use; {_REMEDY}"
            )
        if attributes["id"] in self.ports:
            raise ValueError(f"two layers of number {attributes['id'][:20]!r}")
        self.layer, self.has_data = attributes, False
        self.ports[attributes["id"]] = {"input": set(), "output": set()}

    def _constant(self, attributes: dict[str, str]) -> None:
        """Its bytes must lie in the weights, and be as many as its shape takes."""
        dims = [_whole(dim) for dim in attributes["shape"].split(",", MOST_DIMS) if dim.strip()]
        width = WIDTHS.get(attributes["element_type"])
        offset, size = _whole(attributes["offset"]), _whole(attributes["size"])
        if width is None:
            raise UnsafeFileError(f"{self.name}: weights of type {attributes['element_type'][:20]!r}; {_REMEDY}")
        if size != width * math.prod(dims):
            raise ValueError(f"a constant of size {dims} with {size} bytes")
        if offset + size > self.weight_bytes:
            raise UnsafeFileError(
                f"{self.name}: a constant at {offset} of {size} bytes, the weights end at {self.weight_bytes}; "
                f"{_REMEDY}"
            )

    def check_edges(self) -> None:
        """Every edge goes from an output to an input, and no input has two."""
        taken = set()
        for edge in self.edges:
            source, target = (edge["from-layer"], edge["from-port"]), (edge["to-layer"], edge["to-port"])
            from_there = source[1] in self.ports[source[0]]["output"]
            if not from_there or target[1] not in self.ports[target[0]]["input"] or target in taken:
                raise ValueError(f"an edge from {source} to {target}"[:120])
            taken.add(target)
        wanted = sum(len(ports["input"]) for ports in self.ports.values())
        if len(taken) != wanted:
            raise ValueError(f"{wanted} inputs with {len(taken)} edges")


def _whole(text: str) -> int:
    if not re.fullmatch(r"\s*\d{1,15}\s*", text):
        raise ValueError(f"{text[:20]!r} where a number belongs")
    return int(text)
