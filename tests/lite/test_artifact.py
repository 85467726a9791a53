"""The JSON beside an exported file comes back as it was written, and anything else is refused in one sentence."""

import json
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from lite.artifact import (
    ArtifactSpec,
    CropRule,
    LetterboxRule,
    OutputSpec,
    read_spec,
    spec_from_dict,
    spec_path,
    write_spec,
)
from lite.errors import ArtifactError

SPEC = ArtifactSpec(
    task="pose",
    model="toy",
    input_hw=(32, 24),
    mean=(120, 110.5, 100.0),
    std=(50.0, 60.0, 70.0),
    crop=CropRule(),
    letterbox=LetterboxRule(),
    outputs=(OutputSpec(name="keypoints", shape=("N", 17, 2), dtype="float32", unit="crop px"),),
    codec={"name": "udp_heatmap", "input_hw": [32, 24], "border": None, "deep": {"a": [1, 2.5, True]}},
    skeleton="coco17",
    labels=("person", "tennis racket"),
    batch_range=(1, 8),
    versions={"torch": "2.13.0+cpu"},
    sha256="ab" * 32,
    companions={"x.bin": "cd" * 32},
    check={"passed": True, "shift_max_px": 0.01, "failures": []},
)


def test_round_trip(tmp_path: Path) -> None:
    write_spec(tmp_path / "x.pt2", SPEC)
    assert read_spec(tmp_path / "x.pt2") == SPEC
    plain = ArtifactSpec(task="detect", model="x", input_hw=(1, 1), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    assert spec_from_dict(plain.to_dict(), "x") == plain


WRONG = [
    ("task", "hack", "Literal"),
    ("model", 7, "model: expected str"),
    ("model", "red\x1b[31m", "model: expected str"),
    ("model", "two\nlines", "model: expected str"),
    ("input_hw", "3224", "input_hw"),
    ("input_hw", [32], "input_hw"),
    ("input_hw", ["32", "24"], "input_hw: expected int"),
    ("input_hw", [32.0, 24.0], "input_hw: expected int"),
    ("input_hw", [True, 24], "input_hw: expected int"),
    ("check", {"limits": {"x": 10**400}}, "check: expected int"),
    ("input_hw", [-32, 24], "input_hw: expected 1 to"),
    ("input_hw", [10**9, 10**9], "input_hw: expected 1 to"),
    ("mean", [0.0, 0.0], "mean"),
    ("mean", [0.0, 0.0, float("nan")], "mean: expected float"),
    ("std", [0.0, 1.0, 1.0], "std: expected"),
    ("std", ["1", "1", "1"], "std: expected float"),
    ("std", [float("inf"), 1.0, 1.0], "std: expected float"),
    ("color_order", "GRB", "color_order"),
    ("crop", {"padding": "1.25"}, "crop.padding"),
    ("crop", {"padding": -1}, "crop.padding: expected 0.1"),
    ("crop", {"padding": 1.25, "run": "x"}, "unknown fields"),
    ("crop", [1.25, "udp"], "crop"),
    ("letterbox", {"fill": 300}, "letterbox.fill"),
    ("outputs", {}, "outputs"),
    ("outputs", [{"name": "keypoints"}], "lacks shape"),
    ("outputs", [{"name": "k", "shape": [[1]], "dtype": "float32", "unit": ""}], "outputs.shape"),
    ("codec", [], "codec"),
    ("codec", {"name": "udp\x00"}, "codec"),
    ("skeleton", ["coco17"], "skeleton"),
    ("skeleton", "../../coco17", "skeleton: expected one of"),
    ("codec", {"name": ["udp_heatmap"]}, "codec: expected a name"),
    ("codec", {"name": "udp_heatmap", "heatmap_hw": [10**9, 10**9]}, "codec: expected a name"),
    ("codec", {"name": "udp_heatmap", "blur_kernel": 10**9 + 1}, "codec: expected a name"),
    ("labels", "person", "labels"),
    ("labels", [1], "labels"),
    ("person_label", "0", "person_label"),
    ("frame", {"kind": "squeeze"}, "frame.kind"),
    ("frame", {"kind": "center-crop", "short_side": 0}, "frame.short_side"),
    ("frame", {"kind": "short-side", "multiple": 10**6}, "frame.multiple"),
    ("palette", [[0, 0, 256]], "palette"),
    ("palette", [[0, 0]], "palette"),
    ("label_swaps", [[0, 10**6]], "label_swaps"),
    ("flip_test", "no", "flip_test: expected bool"),
    ("flip_test", 1, "flip_test: expected bool"),
    ("batch_range", [1, 10**12], "batch_range"),
    ("batch_range", [8, 1], "smaller first"),
    ("batch_range", [0, 8], "batch_range"),
    ("mode", "float8", "mode"),
    ("format", "exe", "format"),
    ("versions", {"torch": 2.13}, "versions: expected str"),
    ("device", None, "device"),
    ("sha256", "short", "sha256"),
    ("sha256", 7, "sha256"),
    ("source_sha256", "AB" * 32, "sha256"),
    ("companions", {"x.bin": None}, "companions"),
    ("companions", {"x.bin": "x"}, "sha256"),
    ("companions", {"../x.bin": "0" * 64}, "companions"),
    ("companions", {"..": "0" * 64}, "companions"),
    ("check", True, "check"),
    ("new", 1, "unknown fields 'new'"),
]


@pytest.mark.parametrize(("name", "value", "says"), WRONG)
def test_values_of_another_kind(name: str, value: Any, says: str) -> None:
    values = SPEC.to_dict()
    values[name] = value
    with pytest.raises(ArtifactError, match="export the model again") as caught:
        spec_from_dict(values, "x.json")
    assert says in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_every_field_refuses_something() -> None:
    assert {f.name for f in fields(ArtifactSpec)} - {name for name, _, _ in WRONG} <= {
        "input_layout", "input_dtype", "licence", "schema", "flops", "trunk_matrix",
    }  # fmt: skip


@pytest.mark.parametrize("missing", ["task", "model", "input_hw", "mean", "std"])
def test_values_that_are_missing(missing: str) -> None:
    values = SPEC.to_dict()
    del values[missing]
    with pytest.raises(ArtifactError, match=f"lacks {missing}"):
        spec_from_dict(values, "x")


@pytest.mark.parametrize("values", [None, [], "x", {}, {"schema": "hpe-lite/artifact/2"}, {"schema": ["x" * 10**6]}])
def test_other_documents(values: Any) -> None:
    with pytest.raises(ArtifactError, match="schema") as caught:
        spec_from_dict(values, "x")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"\x00", b"[" * 200_000, b'{"a":' * 200_000, b"1" * 5000, b'{"schema": ' + b"9" * 10_000],
)
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    spec_path(tmp_path / "x.pt2").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"x\.pt2\.json"):
        read_spec(tmp_path / "x.pt2")


def test_deep_values_in_free_fields(tmp_path: Path) -> None:
    bomb: Any = 0
    for _ in range(900):
        bomb = [bomb]
    with pytest.raises(ArtifactError):
        spec_from_dict({**SPEC.to_dict(), "codec": {"name": bomb}}, "x")


def test_a_file_too_large_to_be_one(tmp_path: Path) -> None:
    with spec_path(tmp_path / "x.pt2").open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(ArtifactError, match="1073741824 bytes"):
        read_spec(tmp_path / "x.pt2")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_things_that_are_no_file(tmp_path: Path) -> None:
    path = spec_path(tmp_path / "x.pt2")
    for make in (path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to(path)):
        make()
        with pytest.raises(ArtifactError):
            read_spec(tmp_path / "x.pt2")
        path.rmdir() if path.is_dir() else path.unlink()


def test_numbers_that_json_has_not(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_spec(tmp_path / "x", replace(SPEC, check={"shift": float("nan")}))
    values = json.loads(json.dumps({**SPEC.to_dict(), "check": {"shift": float("nan")}}))
    with pytest.raises(ArtifactError, match="check"):
        spec_from_dict(values, "x")
