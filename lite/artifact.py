"""`ArtifactSpec`: everything the engine must know about a network, and the JSON beside every exported file.

`export` writes it, `lite` reads it; an eager network carries one as `.spec`. It is the only link between the two
packages.
"""

import dataclasses
import hashlib
import json
import os
import re
import reprlib
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from lite.errors import ArtifactError
from lite.skeletons import list_skeletons

SPEC_SCHEMA = "hpe-lite/artifact/1"
LARGEST_JSON = 16 * 2**20  # bytes; ours have some thousand
LARGEST_CODEC_NUMBER, LARGEST_CODEC_SIZE = 2**20, 2**13
# Numbers beyond these would ask for more memory than any machine has, or divide by nothing.
BOUNDS = (
    ("input_hw", 1, 2**14),
    ("std", 1e-3, 1e6),
    ("batch_range", 1, 2**16),
    ("flops", 0, 1e18),
    ("trunk_matrix", 1, 2**15),
    ("person_label", 0, 2**16),
    ("crop.padding", 0.1, 10),
    ("letterbox.fill", 0, 255),
    ("frame.short_side", 1, 2**14),
    ("frame.multiple", 1, 2**10),
)
Task = Literal["detect", "pose", "pose-bottom-up", "segment", "classify", "features"]
Mode = Literal["float32", "float16", "bfloat16", "int8"]
Format = Literal["eager", "pt2", "onnx", "openvino", "tensorrt"]


@dataclass(frozen=True, kw_only=True)
class CropRule:
    """How a box becomes a crop: `padding` times larger, widened to the input's aspect, warped by the `affine` rule.

    With `square` the udp rule widens it to a square instead, which fills the input and loses its aspect: so networks of
    MPII were trained, whose annotations say one scale for both sides. The classic rule keeps the aspect always.
    """

    padding: float = 1.25
    affine: Literal["udp", "classic"] = "udp"
    square: bool = False


@dataclass(frozen=True, kw_only=True)
class LetterboxRule:
    """How a frame becomes the detector's canvas: aspect kept, top-left, the rest filled with `fill` (0..255)."""

    fill: int = 114


@dataclass(frozen=True, kw_only=True)
class FrameRule:
    """How a whole frame becomes the network's input, where no box is cut out.

    Attributes:
        kind: "stretch" (to the input size, aspect lost), "center-crop" (the short side to `short_side`, then the middle
            of the input size) or "short-side" (the short side to that of the input size, the long side as the aspect
            asks and up to a whole `multiple`, so that the input size varies).
        short_side: px, for "center-crop". multiple: px, for "short-side".
    """

    kind: Literal["stretch", "center-crop", "short-side"]
    short_side: int = 256
    multiple: int = 64


@dataclass(frozen=True, kw_only=True)
class OutputSpec:
    """One output tensor; in `shape` the first axis is the batch and is written "N", sides that follow an input of any
    size "h/2" and "w/2"."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    unit: str

    def sized(self, batch: int, height: int, width: int) -> tuple[int, ...]:
        """The shape for a batch of inputs of this size, px; "h/2" and "w/2" are halves of its sides."""
        sides = {"N": batch, "h": height, "w": width}
        parts = (side.partition("/") if isinstance(side, str) else side for side in self.shape)
        return tuple(part if isinstance(part, int) else sides[part[0]] // int(part[2] or 1) for part in parts)


@dataclass(frozen=True, kw_only=True)
class ArtifactSpec:
    """What a network or exported file takes, gives, and came from.

    Attributes:
        task: what it does.
        model: zoo name, or `<family>-custom` when no zoo row fits the tensors.
        input_hw: (h, w) of the crop or canvas, px.
        color_order: channel order the network was trained with; pixels are always handed over as RGB.
        mean, std: per channel in `color_order`, on the 0..255 scale.
        crop: set for networks that take boxes. letterbox: set for detectors. frame: set for networks that take whole
            frames; segmentation networks have it beside `crop` and take either.
        outputs: what the pixel graph returns.
        codec: name of the codec in `lite.codecs.CODECS` under "name", its constructor arguments beside it.
        skeleton: name of a file in `lite/skeletons` (pose). labels: class names in order (detect, segment, classify).
        palette: RGB of each label (segment). label_swaps: pairs of labels that a mirrored picture swaps (segment).
        person_label: the class that counts as a person (detect).
        flip_test: whether the graph averages with the mirrored crop.
        flops: floating-point operations of the network for one crop, two for each multiply-add, a flip test included.
        trunk_matrix: (rows for one crop, inner, columns) of the matrix product most of them are in; what
            `hpe-lite bench model` compares with.
        batch_range: smallest and largest batch the file accepts.
        mode: float32, float16, bfloat16, int8. format: eager, pt2, onnx, openvino, tensorrt.
        versions: library name -> version used to write the file.
        device: "any", or the device kind and capability the file is tied to.
        sha256: of the artifact. companions: names of further files beside it -> their sha256 (OpenVINO's weights, ONNX
            external data). source_sha256: of the checkpoint it was made from.
        licence: of the weights.
        check: the report of the comparison with the eager float32 network.
    """

    task: Task
    model: str
    input_hw: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    color_order: Literal["RGB", "BGR"] = "RGB"
    input_layout: Literal["NHWC"] = "NHWC"
    input_dtype: Literal["uint8"] = "uint8"
    crop: CropRule | None = None
    letterbox: LetterboxRule | None = None
    frame: FrameRule | None = None
    outputs: tuple[OutputSpec, ...] = ()
    codec: dict[str, Any] = field(default_factory=dict)
    skeleton: str | None = None
    labels: tuple[str, ...] = ()
    palette: tuple[tuple[int, int, int], ...] = ()
    label_swaps: tuple[tuple[int, int], ...] = ()
    person_label: int = 0
    flip_test: bool = False
    flops: int | None = None
    trunk_matrix: tuple[int, int, int] | None = None
    batch_range: tuple[int, int] = (1, 64)
    mode: Mode = "float32"
    format: Format = "eager"
    versions: dict[str, str] = field(default_factory=dict)
    device: str = "any"
    sha256: str | None = None
    companions: dict[str, str] = field(default_factory=dict)
    source_sha256: str | None = None
    licence: str | None = None
    check: dict[str, Any] | None = None
    schema: str = SPEC_SCHEMA

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, ready for JSON (tuples become lists)."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def spec_from_dict(values: dict[str, Any], origin: str) -> ArtifactSpec:
    """Rebuild a spec from parsed JSON.

    Args:
        values: the object `ArtifactSpec.to_dict` gave.
        origin: file name for error messages.

    Raises:
        ArtifactError: not an object of this schema, or a field missing, unknown or of the wrong kind.
    """
    if not isinstance(values, dict) or values.get("schema") != SPEC_SCHEMA:
        found = reprlib.repr(values.get("schema")) if isinstance(values, dict) else type(values).__name__
        raise ArtifactError(
            f"{origin}: expected an artifact JSON of schema {SPEC_SCHEMA}, found {found}; export the model again"
        )
    try:
        spec = _built(values, ArtifactSpec, "")
        for name, least, most in BOUNDS:
            numbers = _number(spec, name)
            if not all(least <= number <= most for number in numbers):
                raise ValueError(f"{name}: expected {least} to {most}, found {list(numbers)}")
        if spec.batch_range[0] > spec.batch_range[1]:
            raise ValueError(f"batch_range: expected the smaller first, found {list(spec.batch_range)}")
        if not all(0 <= level <= 255 for color in spec.palette for level in color):
            raise ValueError("palette: expected levels from 0 to 255, found others")
        if not all(0 <= label < len(spec.labels) for pair in spec.label_swaps for label in pair):
            raise ValueError(f"label_swaps: expected labels below {len(spec.labels)}, found others")
        if spec.skeleton is not None and spec.skeleton not in list_skeletons():
            raise ValueError(f"skeleton: expected one of {', '.join(list_skeletons())}, found {spec.skeleton[:40]!r}")
        if not isinstance(spec.codec.get("name", ""), str) or not _all_small(spec.codec):
            raise ValueError(f"codec: expected a name and sizes up to {LARGEST_CODEC_SIZE}, found others")
        sides = [side for output in spec.outputs for side in output.shape if isinstance(side, str)]
        if not all(re.fullmatch("N|[hw](/[1-9][0-9]?)?", side) for side in sides):
            raise ValueError("outputs: expected sides as numbers, N, h/2 or w/2, found others")
        hashes = (spec.sha256, spec.source_sha256, *spec.companions.values())
        if not all(text is None or re.fullmatch("[0-9a-f]{64}", text) for text in hashes):
            raise ValueError("sha256: expected 64 hexadecimal digits, found something else")
        if not all(re.fullmatch(r"[^/\\:]+", name) and name not in (".", "..") for name in spec.companions):
            raise ValueError("companions: expected names of files beside it, found others")
        return spec
    except (ValueError, RecursionError) as problem:
        raise ArtifactError(f"{origin}: not a usable artifact JSON ({problem}); export the model again") from None


def _number(spec: ArtifactSpec, name: str) -> tuple[float, ...]:
    """The numbers at a dotted field, none where a part of it is not set."""
    value: Any = spec
    for part in name.split("."):
        value = getattr(value, part, None)
    return () if value is None else value if isinstance(value, tuple) else (value,)


def _all_small(value: Any, most: int = LARGEST_CODEC_NUMBER) -> bool:
    """Whether no number in plain containers would ask a codec for gigabytes; in lists are sizes of maps."""
    if isinstance(value, dict):
        return all(_all_small(one, most) for one in value.values())
    if isinstance(value, list):
        return all(_all_small(one, LARGEST_CODEC_SIZE) for one in value)
    return not isinstance(value, int | float) or abs(value) <= most


def _built(value: Any, kind: Any, key: str) -> Any:
    """A JSON value as the annotated type `kind`: objects become dataclasses, lists tuples, nothing else is converted.

    Raises:
        ValueError: another kind of value; the message names the field `key`.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        kinds, fields = get_type_hints(kind), dataclasses.fields(kind)
        unknown = sorted(set(value) - set(kinds))
        if unknown:
            raise ValueError(f"{key or 'it'} has unknown fields {', '.join(unknown)[:60]!r}, from another version")
        missing = [f.name for f in fields if f.name not in value and _required(f)]
        if missing:
            raise ValueError(f"{key or 'it'} lacks {', '.join(missing)}")
        return kind(**{name: _built(one, kinds[name], f"{key}.{name}" if key else name) for name, one in value.items()})
    if origin is tuple and isinstance(value, list):
        if arguments[1:] == (...,):
            return tuple(_built(one, arguments[0], key) for one in value)
        if len(value) == len(arguments):
            return tuple(_built(one, inner, key) for one, inner in zip(value, arguments))
    elif origin is dict and isinstance(value, dict):
        return {_built(name, str, key): _built(one, arguments[1], key) for name, one in value.items()}
    elif origin is UnionType:  # of plain types, or of one type and None
        fitting = [inner for inner in arguments if type(value) is inner] or [arguments[0]]
        return _built(value, fitting[0], key)
    elif kind is Any:
        if isinstance(value, list):
            return [_built(one, Any, key) for one in value]
        return _built(value, dict[str, Any] if isinstance(value, dict) else type(value), key)
    elif (
        (origin is Literal and isinstance(value, str) and value in arguments)
        or (kind is str and isinstance(value, str) and value.isprintable())
        or (kind is float and type(value) in (int, float) and abs(value) < 1e12)  # not NaN either
        or (kind is int and type(value) is int and abs(value) < 2**63)
        or (kind in (bool, NoneType) and type(value) is kind)
    ):
        return value
    raise ValueError(f"{key}: expected {_said(kind)}, found {reprlib.repr(value)}")


def _required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _said(kind: Any) -> str:
    """A type as people write it: `tuple[int, int]`, `str | None`."""
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind).replace("typing.", "")


def sha256_of(path: str | Path) -> str:
    """Hex digest of a file, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def spec_path(artifact: str | Path) -> Path:
    """`x.pt2` -> `x.pt2.json`."""
    return Path(f"{artifact}.json")


def read_spec(artifact: str | Path) -> ArtifactSpec:
    """Read the JSON beside an exported file.

    Raises:
        ArtifactError: the JSON is missing, unreadable or of another schema.
    """
    path = spec_path(artifact)
    try:
        if not path.is_file():  # asked first, because opening a pipe would wait for ever
            raise ArtifactError(
                f"{artifact}: expected its description {path.name} beside it, found none; export the model again"
            )
        if path.stat().st_size > LARGEST_JSON:
            raise ValueError(f"{path.stat().st_size} bytes")
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise ArtifactError(
            f"{path}: expected JSON, found something else ({reprlib.repr(str(problem))}); export the model again"
        ) from None
    return spec_from_dict(values, str(path))


def write_spec(artifact: str | Path, spec: ArtifactSpec) -> Path:
    """Write the JSON beside an exported file, complete or not at all."""
    path = spec_path(artifact)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    partial.write_text(json.dumps(spec.to_dict(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(partial, path)
    return path
