"""ONNX files that are damaged, lie, or reach outside are refused before a runtime sees them."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lite import cli
from lite.artifact import ArtifactSpec, CropRule, OutputSpec, read_spec, sha256_of, spec_path, write_spec
from lite.backends import onnx_file
from lite.backends.artifact_file import SPEC_KEY, embedded_spec
from lite.backends.onnx_file import vet_onnx
from lite.errors import ArtifactError, UnsafeFileError

onnx = pytest.importorskip("onnx")

SPEC = ArtifactSpec(
    task="pose",
    model="toy",
    input_hw=(32, 24),
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    crop=CropRule(),
    codec={"name": "udp_heatmap", "input_hw": [32, 24], "heatmap_hw": [8, 6]},
    outputs=(
        OutputSpec(name="keypoints", shape=("N", 5, 2), dtype="float32", unit="crop px"),
        OutputSpec(name="scores", shape=("N", 5), dtype="float32", unit="0..1"),
    ),
    format="onnx",
    batch_range=(1, 8),
)
Change = Callable[["onnx.ModelProto"], None]


def model() -> "onnx.ModelProto":
    """Not a network, but a valid file with the right ends, made without the exporter."""
    make, kind = onnx.helper, onnx.TensorProto
    weights = onnx.numpy_helper.from_array(np.zeros(10, np.float32), "network.weight")
    graph = make.make_graph(
        [make.make_node("Identity", ["network.weight"], ["copy"], "network/Identity")],
        "toy",
        [make.make_tensor_value_info("pixels", kind.UINT8, ["batch", 32, 24, 3])],
        [
            make.make_tensor_value_info("keypoints", kind.FLOAT, ["batch", 5, 2]),
            make.make_tensor_value_info("scores", kind.FLOAT, ["batch", 5]),
        ],
        [weights],
    )
    made = make.make_model(graph, opset_imports=[make.make_opsetid("", 22)])
    made.metadata_props.add(key=SPEC_KEY, value=json.dumps(embedded_spec(SPEC)))
    return made


def artifact(folder: Path, change: Change = lambda made: None, data: bytes | None = None, **fields: object) -> Path:
    """The file with its JSON, whose hash fits whatever was done to it."""
    made = model()
    change(made)
    path = folder / "toy.onnx"
    path.write_bytes(made.SerializeToString() if data is None else data)
    write_spec(path, replace(SPEC, sha256=sha256_of(path), **fields))
    return path


def vet(path: Path) -> bytes | str:
    return vet_onnx(path, read_spec(path))


def test_what_passes_is_handed_over_as_it_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = artifact(tmp_path)
    assert vet(path) == path.read_bytes()
    monkeypatch.setattr(onnx_file, "LARGEST_IN_MEMORY", 10)
    assert vet(path) == str(path)


def outside(place: str) -> Change:
    def change(made: "onnx.ModelProto") -> None:
        tensor = made.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=place)

    return change


@pytest.mark.parametrize(
    "place",
    ["/etc/passwd", "../secret", "sub/file", "..", "", "a\\b", "C:file", "*/_ORT_MEM_ADDR_/*", "x\0y"],
)
def test_weights_elsewhere(tmp_path: Path, place: str) -> None:
    with pytest.raises(UnsafeFileError, match="not a file beside it"):
        vet(artifact(tmp_path, outside(place)))


def test_weights_elsewhere_in_a_constant(tmp_path: Path) -> None:
    def change(made: "onnx.ModelProto") -> None:
        outside("/etc/passwd")(made)
        tensor = onnx.TensorProto()
        tensor.CopyFrom(made.graph.initializer[0])
        del made.graph.initializer[:]
        node = onnx.helper.make_node("Constant", [], ["network.weight"])
        node.attribute.append(onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSOR, t=tensor))
        made.graph.node.insert(0, node)

    with pytest.raises(UnsafeFileError, match="not a file beside it"):
        vet(artifact(tmp_path, change))


def test_weights_beside_must_be_the_ones_the_json_knows(tmp_path: Path) -> None:
    (tmp_path / "toy.onnx.data").write_bytes(bytes(40))
    with pytest.raises(ArtifactError, match="companions"):
        vet(artifact(tmp_path, outside("toy.onnx.data")))
    known = {"toy.onnx.data": sha256_of(tmp_path / "toy.onnx.data")}
    path = artifact(tmp_path, outside("toy.onnx.data"), companions=known)
    assert vet(path) == str(path)
    (tmp_path / "toy.onnx.data").write_bytes(bytes(41))
    with pytest.raises(ArtifactError, match="sha256"):
        vet(path)


def test_weights_beside_that_are_a_link(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(40))
    (tmp_path / "toy.onnx.data").symlink_to(secret)
    with pytest.raises(ArtifactError, match=r"toy\.onnx\.data"):
        vet(artifact(tmp_path, outside("toy.onnx.data"), companions={"toy.onnx.data": sha256_of(secret)}))


def custom_node(made: "onnx.ModelProto") -> None:
    made.graph.node[0].domain = "com.evil"


def custom_set(made: "onnx.ModelProto") -> None:
    made.opset_import.add(domain="com.evil", version=1)


def function(made: "onnx.ModelProto") -> None:
    made.functions.add(name="f", domain="")


def subgraph(made: "onnx.ModelProto") -> None:
    made.graph.node[0].attribute.add(name="body", type=onnx.AttributeProto.GRAPH).g.name = "inner"


def text_tensor(made: "onnx.ModelProto") -> None:
    made.graph.initializer.append(onnx.helper.make_tensor("t", onnx.TensorProto.STRING, [1], [b"x"]))


def sparse(made: "onnx.ModelProto") -> None:
    made.graph.sparse_initializer.add()


def training(made: "onnx.ModelProto") -> None:
    made.training_info.add()


@pytest.mark.parametrize(
    "change", [custom_node, custom_set, function, subgraph, text_tensor, sparse, training], ids=lambda f: f.__name__
)
def test_what_our_files_do_not_have(tmp_path: Path, change: Change) -> None:
    with pytest.raises(UnsafeFileError, match=r"toy\.onnx"):
        vet(artifact(tmp_path, change))


def test_more_parts_than_any_network_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "MOST_PARTS", 200)
    with pytest.raises(UnsafeFileError, match="more than 200 parts"):
        vet(artifact(tmp_path, lambda made: made.graph.node.extend([onnx.NodeProto(op_type="Relu")] * 200)))


def huge(made: "onnx.ModelProto") -> None:
    """A tensor of a terabyte whose bytes are not there."""
    made.graph.initializer[0].dims[:] = [2**40]


def many_dims(made: "onnx.ModelProto") -> None:
    made.graph.initializer[0].dims[:] = [1] * 100_000


def large_text(made: "onnx.ModelProto") -> None:
    made.metadata_props.add(key="x", value="x" * 2**21)


def two_specs(made: "onnx.ModelProto") -> None:
    made.metadata_props.add(key=SPEC_KEY, value=json.dumps(embedded_spec(replace(SPEC, mean=(9.0, 9.0, 9.0)))))


def no_spec(made: "onnx.ModelProto") -> None:
    del made.metadata_props[:]


def nested_spec(made: "onnx.ModelProto") -> None:
    made.metadata_props[0].value = "[" * 500_000


def second_input(made: "onnx.ModelProto") -> None:
    made.graph.input.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, [1]))


def wide_input(made: "onnx.ModelProto") -> None:
    made.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 25


def swapped(made: "onnx.ModelProto") -> None:
    made.graph.output[0].name, made.graph.output[1].name = "scores", "keypoints"


@pytest.mark.parametrize(
    "change",
    [huge, many_dims, large_text, two_specs, no_spec, nested_spec, second_input, wide_input, swapped],
    ids=lambda f: f.__name__,
)
def test_damaged_or_another_file(tmp_path: Path, change: Change) -> None:
    with pytest.raises(ArtifactError, match=r"toy\.onnx: .*; export the model again"):
        vet(artifact(tmp_path, change))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-20],
        lambda data: data[: len(data) // 2],
        lambda data: b"PK\x03\x04" + bytes(500),
        lambda data: b"\x3a" + b"\xff" * 20,  # a length of more than ten bytes
        lambda data: data + b"\x3a\xff\xff\xff\xff\x0f",  # a second graph of 4 GB
        lambda data: data + b"\x3a\x00",
        lambda data: b"\x0b" * 100,  # groups
        lambda data: data.replace(SPEC_KEY.encode(), b"\xff" * len(SPEC_KEY)),
    ],
)
def test_bytes_that_are_no_model(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises((ArtifactError, UnsafeFileError), match=r"toy\.onnx"):
        vet(artifact(tmp_path, data=damage(model().SerializeToString())))


def field(number: int, value: bytes | int) -> bytes:
    """One field of a protobuf message, up to 127 bytes."""
    kind, body = (0, bytes([value])) if isinstance(value, int) else (2, bytes([len(value)]) + value)
    return bytes([number << 3 | kind]) + body


NUMBERS = [
    field(7, 3),
    field(7, field(1, 3)),
    field(7, field(5, 3)),
    field(7, field(5, field(9, 3))),
    field(7, field(11, field(2, 3))),
    field(7, field(1, field(5, 3))),
    field(8, 3),
    field(14, 3),
]


@pytest.mark.parametrize("data", NUMBERS)
def test_numbers_where_messages_belong(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"found a damaged one \(a number where"):
        vet(artifact(tmp_path, data=data))


def test_a_tensor_of_many_dimensions(tmp_path: Path) -> None:
    """Their product would keep a processor busy for days."""
    tensor = field(1, 127) * 60_000
    size = b"".join(bytes([byte]) for byte in (0x80 | len(tensor) & 127, 0x80 | len(tensor) >> 7 & 127))
    size += bytes([len(tensor) >> 14])
    inner = b"\x2a" + size + tensor
    total = len(inner)
    outer = bytes([0x3A, 0x80 | total & 127, 0x80 | total >> 7 & 127, total >> 14]) + inner
    with pytest.raises(ArtifactError, match="more than 64 dimensions"):
        vet(artifact(tmp_path, data=outer))


def test_a_random_change_anywhere_is_an_answer(tmp_path: Path) -> None:
    """Whatever is done to the bytes, the outcome is a refusal or a pass, never another exception."""
    data, refused = model().SerializeToString(), 0
    chance = random.Random(0)
    for _ in range(300):
        place = chance.randrange(len(data))
        changed = data[:place] + bytes([chance.randrange(256)]) + data[place + 1 :]
        try:
            vet(artifact(tmp_path, data=changed))
        except (ArtifactError, UnsafeFileError):
            refused += 1
    assert refused > 150


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"mean": (1.0, 2.0, 3.0)}, "mean"),
        ({"batch_range": (1, 64)}, "batch_range"),
        ({"flip_test": True}, "flip_test"),
        ({"mode": "bfloat16"}, "mode"),
        ({"input_hw": (64, 48)}, "input_hw"),
        ({"codec": {"name": "msra_heatmap", "input_hw": [32, 24], "heatmap_hw": [8, 6]}}, "codec"),
    ],
)
def test_a_json_that_lies(tmp_path: Path, fields: dict, says: str) -> None:
    with pytest.raises(ArtifactError, match=f"disagree about {says}"):
        vet(artifact(tmp_path, **fields))


def test_a_mode_that_both_claim_and_the_weights_deny(tmp_path: Path) -> None:
    def claim(made: "onnx.ModelProto") -> None:
        made.metadata_props[0].value = json.dumps(embedded_spec(replace(SPEC, mode="float16")))

    with pytest.raises(ArtifactError, match="the mode float16"):
        vet(artifact(tmp_path, claim, mode="float16"))


def test_a_changed_file(tmp_path: Path) -> None:
    path = artifact(tmp_path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match="sha256"):
        vet(path)


def test_a_folder_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "toy.onnx").mkdir()
    with pytest.raises(ArtifactError, match="expected a file"):
        vet_onnx(tmp_path / "toy.onnx", SPEC)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_the_command_line_says_so_and_exits_2(
    tmp_path: Path, backend: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(backend)
    path = artifact(tmp_path, outside("/etc/passwd"))
    pictures = str(root / "lite/pictures")
    arguments = ["infer", "--input", pictures, "--output", str(tmp_path / "out"), "--detector", "none"]
    assert cli.main([*arguments, "--model", str(path), "--backend", backend]) == 2
    assert "not a file beside it" in capsys.readouterr().err
    spec_path(path).unlink()
    assert cli.main([*arguments, "--model", str(path), "--backend", backend]) == 2
    assert "toy.onnx.json" in capsys.readouterr().err
