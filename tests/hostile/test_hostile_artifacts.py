"""A lying JSON beside a good file, things that are no files, the other formats: refused in one line, never a hang."""

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lite.artifact import read_spec, sha256_of, spec_path, write_spec
from tests.hostile.corpus import Kit, changed

Refuse = Callable[..., str]
SUFFIXES = (".pt2", ".onnx", ".xml", ".engine", ".plan", ".pth", ".safetensors", ".bin", "")
ROOT = hasattr(os, "geteuid") and os.geteuid() == 0

# Field of the JSON, what it is made to say, whether `inspect`, which does not open the file, refuses it as well.
LIES: list[tuple[str, Any, bool]] = [
    ("sha256", "0" * 64, False),
    ("sha256", None, False),
    ("sha256", "short", True),
    ("mode", "bfloat16", False),
    ("mode", "pickle", True),
    ("format", "onnx", False),
    ("format", "exe", True),
    ("task", "detect", False),
    ("task", "hack", True),
    ("model", "another", False),
    ("input_hw", [640, 480], False),
    ("input_hw", ["64", "48"], True),
    ("input_hw", [-64, 48], True),
    ("input_hw", [10**9, 10**9], True),
    ("outputs", [], False),
    ("outputs", [{"name": "keypoints", "shape": ["N", 308, 2], "dtype": "float32", "unit": "crop px"}], False),
    ("outputs", [{"name": "keypoints", "shape": ["N", 10**15, 2], "dtype": "os.system", "unit": ""}], False),
    ("outputs", [{"run": "x"}], True),
    ("mean", [0.0, 0.0, 0.0], False),
    ("std", [0.0, 0.0, 0.0], True),
    ("color_order", "BGR", False),
    ("crop", {"padding": 1.0, "affine": "classic"}, False),
    ("crop", {"padding": 1e300}, True),
    ("codec", {"name": "msra_heatmap"}, False),
    ("codec", {"name": "os.system", "command": "true"}, False),
    ("codec", {"name": ["x"]}, True),
    ("codec", {"name": "udp_heatmap", "heatmap_hw": [10**9, 10**9]}, True),
    ("skeleton", "body25", True),
    ("skeleton", "wholebody133", False),
    ("skeleton", "../../../../etc/passwd", True),
    ("flip_test", True, False),
    ("flip_test", "yes", True),
    ("batch_range", [1, 64], False),
    ("batch_range", [1, 10**15], True),
    ("batch_range", [8, 1], True),
    ("versions", {"torch": "99.0.0"}, False),
    ("versions", {"torch": "soon"}, False),
    ("versions", {"torch": 2.13}, True),
    ("device", "cuda sm_90", False),
    ("licence", "free for all", False),
    ("companions", {"../../etc/passwd": "0" * 64}, True),
    ("schema", "hpe-lite/artifact/99", True),
    ("planted", {"__reduce__": "x"}, True),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "seen"), LIES)
def test_a_json_that_lies(kit: Kit, refused: Refuse, name: str, value: Any, seen: bool) -> None:
    path = kit.write("x.pt2", kit.pt2)
    values = json.loads(spec_path(path).read_text())
    values[name] = value
    spec_path(path).write_text(json.dumps(values))
    refused(path, "infer export")
    refused(path, "inspect", status=2 if seen else 1)


DOCUMENTS = {
    "empty": b"",
    "text": b"hello",
    "a list": b"[]",
    "null": b"null",
    "a pickle": pickle.dumps({}),
    "other letters": "{}".encode("utf-16"),
    "many levels": b'{"schema":' * 100_000,
    "cut short": b'{"schema": "hpe-lite/artifact/1", "task": "po',
    "many digits": b'{"schema": ' + b"9" * 100_000 + b"}",
    "not a number": b'{"schema": "hpe-lite/artifact/1", "task": NaN}',
    "lines and colours in its words": b'{"schema": "a\\n\\u001b[31mred\\nb"}',
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_json_that_is_none(kit: Kit, refused: Refuse, name: str) -> None:
    path = kit.write("x.pt2", kit.pt2)
    spec_path(path).write_bytes(DOCUMENTS[name])
    refused(path, "infer inspect")


def test_a_json_of_a_gigabyte(kit: Kit, refused: Refuse) -> None:
    path = kit.write("x.pt2", kit.pt2)
    with spec_path(path).open("wb") as file:
        file.truncate(2**30)
    refused(path, "infer inspect")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


THINGS: dict[str, Callable[[Path], object]] = {
    "folder": Path.mkdir,
    "pipe": _pipe,
    "endless zeros": lambda path: path.symlink_to("/dev/zero"),
    "nothing at all": lambda path: path.symlink_to("/dev/null"),
    "link to itself": lambda path: path.symlink_to(path),
    "link to nothing": lambda path: path.symlink_to(path.with_name("none")),
    "empty file": Path.touch,
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes and devices")
@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_things_that_are_no_file(kit: Kit, refused: Refuse, suffix: str, thing: str) -> None:
    path = kit.folder / f"x{suffix}"
    THINGS[thing](path)
    refused(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes and devices")
@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("suffix", [".pt2", ".onnx", ".xml", ".engine"])
def test_things_that_are_no_json(kit: Kit, refused: Refuse, suffix: str, thing: str) -> None:
    path = kit.write(f"x{suffix}", b"program")
    spec_path(path).unlink()
    THINGS[thing](spec_path(path))
    refused(path)


@pytest.mark.skipif(ROOT, reason="root may read everything")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_that_may_not_be_read(kit: Kit, refused: Refuse, suffix: str) -> None:
    path = kit.write(f"x{suffix}", kit.pth)
    path.chmod(0)
    refused(path)


PROGRAMS = {"another kind": b"\x08\x0a\x12\x04none", "zeros": bytes(200), "a pickle": pickle.dumps([1]), "nothing": b""}


@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".engine", ".plan"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_other_formats(kit: Kit, refused: Refuse, suffix: str, name: str) -> None:
    path = kit.write(f"x{suffix}", PROGRAMS[name])
    refused(path, "infer export")


BOMB = '<!DOCTYPE net [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {b} "{f"&{a};" * 20}">' for a, b in zip("abcdefgh", "bcdefghi")
)  # fmt: skip
XML = {
    "entities that grow": f'<?xml version="1.0"?>{BOMB}]><net name="&i;"/>',
    "entity of a file": '<?xml version="1.0"?><!DOCTYPE n [<!ENTITY a SYSTEM "file:///etc/passwd">]><net name="&a;"/>',
    "many levels": "<net>" * 100_000,
    "no network": "<html/>",
    "cut short": '<?xml version="1.0"?><net name="x" version="11"><layers>',
}


@pytest.mark.parametrize("name", XML)
def test_xml(kit: Kit, refused: Refuse, name: str) -> None:
    pytest.importorskip("openvino")
    path = kit.folder / "x.xml"
    path.write_text(XML[name])
    path.with_suffix(".bin").write_bytes(b"")
    companions = {"x.bin": sha256_of(path.with_suffix(".bin"))}
    write_spec(path, replace(kit.spec, format="openvino", sha256=sha256_of(path), companions=companions))
    refused(path, "infer export")


@pytest.mark.parametrize("place", ["../x.data", "/etc/passwd", "folder/x.data", "x.data", ".."])
def test_onnx_weights_elsewhere(kit: Kit, refused: Refuse, place: str) -> None:
    onnx = pytest.importorskip("onnx")
    weight = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [4], bytes(16), raw=True)
    onnx.external_data_helper.set_external_data(weight, place, 0, 16)
    weight.ClearField("raw_data")
    pixels = onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.UINT8, ["N", 64, 48, 3])
    node = onnx.helper.make_node("Identity", ["w"], ["keypoints"])
    made = onnx.helper.make_tensor_value_info("keypoints", onnx.TensorProto.FLOAT, [4])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "x", [pixels], [made], [weight]))
    for backend in ("onnxruntime", "openvino"):
        pytest.importorskip(backend)
        refused(kit.write("x.onnx", model.SerializeToString()), "infer", extra=("--backend", backend))


@pytest.mark.parametrize("trusting", [False, True])
def test_machine_code_of_somebody_else(kit: Kit, refused: Refuse, trusting: bool) -> None:
    """A compiled package is refused; with --trust it is opened, and this one is damaged."""
    from lite.backends.devices import choose_device, device_tag

    data = changed(kit.pt2, {"data/aotinductor/model/x.wrapper.so": b"\x7fELF"})
    spec = replace(kit.spec, format="pt2", device=device_tag(choose_device("cpu")))
    says = refused(kit.write("x.pt2", data, spec), "infer", extra=("--trust",) if trusting else ())
    assert ("torch cannot load it" if trusting else "--trust") in says


def test_a_trust_file_of_somebody_else(kit: Kit, refused: Refuse, monkeypatch: pytest.MonkeyPatch) -> None:
    from lite.backends.devices import choose_device, device_tag
    from lite.trust import remember, trust_path

    data = changed(kit.pt2, {"data/aotinductor/model/x.wrapper.so": b"\x7fELF"})
    path = kit.write("x.pt2", data, replace(kit.spec, format="pt2", device=device_tag(choose_device("cpu"))))
    remember(read_spec(path).sha256, path.name)
    assert "torch cannot load it" in refused(path, "infer")
    trust_path().chmod(0o666)
    assert "writable by nobody else" in refused(path, "infer")
