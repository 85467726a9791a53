"""The rewrite of 8-bit pixels and the look for operators that TensorRT refuses."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from export.tensorrt_graph import cast_pixels_first, unsupported  # noqa: E402

FLOAT, UINT8, INT64 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT64


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, list]],
    outputs: dict[str, tuple[int, list]],
    constants: dict[str, np.ndarray] | None = None,
    opset: int = 18,
) -> onnx.ModelProto:
    values = [
        [helper.make_tensor_value_info(name, *info) for name, info in given.items()] for given in (inputs, outputs)
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(nodes, "toy", *values, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def one_node(name: str, element: int = FLOAT, given: int = 1, made: int = 1, **attributes: object) -> onnx.ModelProto:
    """A graph of one operator whose inputs are all (2, 3)."""
    node = helper.make_node(name, [f"x{i}" for i in range(given)], [f"y{i}" for i in range(made)], **attributes)
    return model(
        [node], {f"x{i}": (element, [2, 3]) for i in range(given)}, {"y0": (attributes.get("to", element), None)}
    )


@pytest.fixture
def pixels_model() -> onnx.ModelProto:
    """Red and blue exchanged, channels first, cast, scaled: how our graphs begin."""
    constants = {
        "from": np.array([-1]),
        "to": np.array([-(2**62)]),
        "axis": np.array([3]),
        "step": np.array([-1]),
        "scale": np.float32([0.5]),
    }
    nodes = [
        helper.make_node("Shape", ["pixels"], ["size"], start=0, end=1),
        helper.make_node("Slice", ["pixels", "from", "to", "axis", "step"], ["flipped"]),
        helper.make_node("Transpose", ["flipped"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["first"], ["real"], to=FLOAT),
        helper.make_node("Mul", ["real", "scale"], ["out"]),
    ]
    made = model(
        nodes,
        {"pixels": (UINT8, ["batch", 4, 5, 3])},
        {"out": (FLOAT, ["batch", 3, 4, 5]), "size": (INT64, [1])},
        constants,
    )
    made.graph.value_info.append(helper.make_tensor_value_info("first", UINT8, ["batch", 3, 4, 5]))
    return made


def run(built: onnx.ModelProto, **given: np.ndarray) -> list[np.ndarray]:
    onnxruntime = pytest.importorskip("onnxruntime")
    return onnxruntime.InferenceSession(built.SerializeToString()).run(None, given)


def test_pixels_are_cast_before_anything_else_reads_them(pixels_model: onnx.ModelProto) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    before = run(pixels_model, pixels=pixels)
    assert unsupported(pixels_model) == [
        "Shape of uint8",
        "Slice of uint8",
        "Transpose of uint8",
        "Cast of uint8 inside the graph",
    ]
    assert cast_pixels_first(pixels_model)
    onnx.checker.check_model(pixels_model, full_check=True)
    assert [node.op_type for node in pixels_model.graph.node if "pixels" in node.input] == ["Cast"]
    assert unsupported(pixels_model) == []
    for old, new in zip(before, run(pixels_model, pixels=pixels), strict=True):
        np.testing.assert_array_equal(old, new)
    assert not cast_pixels_first(pixels_model), "done once"


def test_arithmetic_on_8_bit_numbers_is_left_alone_and_named() -> None:
    built = one_node("Add", UINT8, given=2)
    assert not cast_pixels_first(built)
    assert unsupported(built) == ["Add of uint8"]


@pytest.mark.parametrize(
    ("built", "reasons"),
    [
        (one_node("Relu"), []),
        (one_node("Relu", TensorProto.BFLOAT16), []),
        (one_node("Clip", INT64), []),
        (one_node("Det"), ["Det"]),
        (one_node("NonZero"), ["NonZero"]),
        (one_node("Sigmoid", TensorProto.DOUBLE), ["Sigmoid of double"]),
        (one_node("Cast", to=TensorProto.DOUBLE), ["Cast to double"]),
        (one_node("Cast", to=TensorProto.FLOAT16), []),
        (one_node("Gelu", domain="com.microsoft"), ["com.microsoft.Gelu"]),
        (one_node("BitwiseAnd", INT64, given=2), ["BitwiseAnd"]),
        (one_node("ReduceMax", given=2), ["ReduceMax along axes that are not constants"]),
        (one_node("ReduceMax"), []),
        (one_node("Resize", mode="cubic"), ["Resize with mode cubic"]),
        (one_node("Resize", mode="linear", antialias=1), ["Resize with antialiasing"]),
        (
            one_node("Resize", coordinate_transformation_mode="tf_crop_and_resize"),
            ["Resize with coordinates tf_crop_and_resize"],
        ),
        (one_node("ScatterND", given=3, reduction="add"), ["ScatterND with reduction add"]),
        (one_node("LayerNormalization", given=2, made=2), ["LayerNormalization with its mean or deviation"]),
    ],
)
def test_what_tensorrt_refuses_is_named(built: onnx.ModelProto, reasons: list[str]) -> None:
    assert unsupported(built) == reasons


def top_k(count: int, **attributes: int) -> onnx.ModelProto:
    node = helper.make_node("TopK", ["x", "k"], ["best", "where"], **attributes)
    return model([node], {"x": (FLOAT, [1, 9000])}, {"best": (FLOAT, None)}, {"k": np.array([count])})


def test_the_longest_top_k_has_3840_places() -> None:
    assert unsupported(top_k(3840)) == []
    assert unsupported(top_k(3841)) == ["TopK of 3841 (at most 3840)"]
    assert unsupported(top_k(5, sorted=0)) == ["TopK unsorted"]


@pytest.mark.parametrize("opset", [8, 25])
def test_opsets_have_an_end(opset: int) -> None:
    assert unsupported(model([], {}, {}, opset=opset)) == [f"opset {opset} (it reads 9 to 24)"]


def quantised(zero: np.ndarray | None, scale: np.ndarray) -> onnx.ModelProto:
    given = ["x", "scale"] + ([] if zero is None else ["zero"])
    nodes = [
        helper.make_node("QuantizeLinear", given, ["q"], axis=0),
        helper.make_node("DequantizeLinear", ["q", *given[1:]], ["y"], axis=0),
    ]
    constants = {"scale": scale} | ({} if zero is None else {"zero": zero})
    return model(nodes, {"x": (FLOAT, [2, 3])}, {"y": (FLOAT, [2, 3])}, constants)


@pytest.mark.parametrize(
    ("zero", "reason"),
    [
        (np.zeros((), np.int8), []),
        (np.zeros(2, np.int8), []),
        (
            np.int8([0, 3]),
            ["QuantizeLinear with a zero point other than 0", "DequantizeLinear with a zero point other than 0"],
        ),
        (np.zeros((), np.uint8), ["QuantizeLinear to uint8", "DequantizeLinear of uint8"]),
        (None, ["QuantizeLinear to uint8", "DequantizeLinear of uint8"]),
    ],
)
def test_8_bit_weights_and_maps_are_signed_and_symmetric(zero: np.ndarray | None, reason: list[str]) -> None:
    scale = np.ones(() if zero is None else zero.shape, np.float32)
    assert unsupported(quantised(zero, scale)) == reason


def test_a_bias_of_32_bits_is_named() -> None:
    node = helper.make_node("DequantizeLinear", ["bias", "scale"], ["y"])
    constants = {"bias": np.zeros(4, np.int32), "scale": np.float32(1)}
    assert unsupported(model([node], {}, {"y": (FLOAT, [4])}, constants)) == ["DequantizeLinear of int32"]


def test_large_weights_are_not_looked_into() -> None:
    weights = np.zeros((64, 200), np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    built = model([node], {"x": (FLOAT, [1, 64])}, {"y": (FLOAT, [1, 200])}, {"w": weights})
    built.graph.node.append(helper.make_node("Cast", ["y"], ["z"], to=TensorProto.DOUBLE))
    assert unsupported(built) == ["Cast to double"]
    assert len(built.graph.initializer) == 1 and len(built.graph.input) == 1
