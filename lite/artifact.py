"""`ArtifactSpec`: everything the engine must know about a network, and the JSON beside every exported file.

`export` writes it, `lite` reads it; an eager network carries one as `.spec`. It is the only link between the two
packages.
"""

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lite.errors import ArtifactError

SPEC_SCHEMA = "hpe-lite/artifact/1"
Task = Literal["detect", "pose", "pose-bottom-up", "segment", "classify", "features"]


@dataclass(frozen=True, kw_only=True)
class CropRule:
    """How a box becomes a crop: `padding` times larger, widened to the input's aspect, warped by the `affine` rule."""

    padding: float = 1.25
    affine: Literal["udp", "classic"] = "udp"


@dataclass(frozen=True, kw_only=True)
class LetterboxRule:
    """How a frame becomes the detector's canvas: aspect kept, top-left, the rest filled with `fill` (0..255)."""

    fill: int = 114


@dataclass(frozen=True, kw_only=True)
class OutputSpec:
    """One output tensor; in `shape` the first axis is the batch and is written "N"."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    unit: str


@dataclass(frozen=True, kw_only=True)
class ArtifactSpec:
    """What a network or exported file takes, gives, and came from.

    Attributes:
        task: what it does.
        model: zoo name, or `<family>-custom` when no zoo row fits the tensors.
        input_hw: (h, w) of the crop or canvas, px.
        color_order: channel order the network was trained with; pixels are always handed over as RGB.
        mean, std: per channel in `color_order`, on the 0..255 scale.
        crop: set for top-down networks. letterbox: set for detectors.
        outputs: what the pixel graph returns.
        codec: name of the codec in `lite.codecs.CODECS` under "name", its constructor arguments beside it.
        skeleton: name of a file in `lite/skeletons` (pose). labels: class names in order (detect, segment, classify).
        person_label: the class that counts as a person (detect).
        flip_test: whether the graph averages with the mirrored crop.
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
    outputs: tuple[OutputSpec, ...] = ()
    codec: dict[str, Any] = field(default_factory=dict)
    skeleton: str | None = None
    labels: tuple[str, ...] = ()
    person_label: int = 0
    flip_test: bool = False
    batch_range: tuple[int, int] = (1, 64)
    mode: str = "float32"
    format: str = "eager"
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
        found = values.get("schema") if isinstance(values, dict) else type(values).__name__
        raise ArtifactError(
            f"{origin}: expected an artifact JSON of schema {SPEC_SCHEMA}, found {found!r}; export the model again"
        )
    known = {f.name for f in dataclasses.fields(ArtifactSpec)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ArtifactError(
            f"{origin}: unknown fields {', '.join(unknown)}; it was written by another version, export the model again"
        )
    try:
        built = dict(values)
        for name in ("input_hw", "mean", "std", "labels", "batch_range"):
            if name in built:
                built[name] = tuple(built[name])
        if built.get("crop") is not None:
            built["crop"] = CropRule(**built["crop"])
        if built.get("letterbox") is not None:
            built["letterbox"] = LetterboxRule(**built["letterbox"])
        built["outputs"] = tuple(OutputSpec(**{**o, "shape": tuple(o["shape"])}) for o in built.get("outputs", ()))
        return ArtifactSpec(**built)
    except (TypeError, KeyError) as problem:
        raise ArtifactError(f"{origin}: not a usable artifact JSON ({problem}); export the model again") from problem


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
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(
            f"{artifact}: expected its description {path.name} beside it, found none; export the model again"
        ) from None
    except (OSError, ValueError) as problem:
        raise ArtifactError(
            f"{path}: expected JSON, found something else ({problem}); export the model again"
        ) from problem
    return spec_from_dict(values, str(path))


def write_spec(artifact: str | Path, spec: ArtifactSpec) -> Path:
    """Write the JSON beside an exported file, complete or not at all."""
    path = spec_path(artifact)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    partial.write_text(json.dumps(spec.to_dict(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(partial, path)
    return path
