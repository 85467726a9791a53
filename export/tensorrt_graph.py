"""What TensorRT asks of an ONNX graph beyond the standard: one rewrite, and a look for what its parser would refuse.

Source: the support matrix of onnx-tensorrt 10.15 (operators, element types, restrictions), and its answer that 8-bit
pixels may only be read by a cast (TensorRT issue 3985).
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

OPSETS = (9, 24)
MOST_TOP_K = 3840
SMALL_CONSTANT = 16384  # bytes; larger ones are weights, which no rule below looks into
# Operators that move cells without looking at them, so that a cast may go before instead of behind them.
MOVES = ("Transpose", "Slice", "Reshape", "Gather", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Concat", "Split")

_FLOATS = ("FLOAT", "FLOAT16", "BFLOAT16")
_INTEGERS = ("INT32", "INT64")
# Element types of the first input -> operators that take them.
_BY_TYPES = {
    _FLOATS: "Acos Acosh Asin Asinh Atan Atanh Attention AveragePool BatchNormalization Ceil Celu Conv ConvTranspose "
    "Cos Cosh CumSum DeformConv Einsum Elu Erf Exp Floor Gelu Gemm GlobalAveragePool GlobalMaxPool GridSample "
    "GroupNormalization HardSigmoid HardSwish Hardmax InstanceNormalization IsInf LRN LayerNormalization LeakyRelu Log "
    "LogSoftmax LpNormalization LpPool MatMul MaxPool MeanVarianceNormalization Mish PRelu QuantizeLinear "
    "RMSNormalization Reciprocal Resize Round Selu Sigmoid Sin Sinh Softmax Softplus Softsign Sqrt Tan Tanh "
    "ThresholdedRelu",
    (*_FLOATS, *_INTEGERS): "Abs Add ArgMax ArgMin Clip DepthToSpace Div Equal Greater GreaterOrEqual IsNaN Less "
    "LessOrEqual Max Mean Min Mod Mul Neg Pad Pow Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax "
    "ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu ScatterElements ScatterND Shrink Sign SpaceToDepth "
    "Sub Sum TopK",
    (*_FLOATS, *_INTEGERS, "BOOL"): "Concat Constant ConstantOfShape Expand EyeLike Flatten Gather GatherElements "
    "GatherND Identity OneHot Reshape Shape Size Slice Split Squeeze Tile Transpose Trilu Unsqueeze Where",
    (*_FLOATS, *_INTEGERS, "BOOL", "UINT8"): "Cast CastLike",
    ("BOOL",): "And Not Or Xor",
    ("INT8",): "DequantizeLinear",
}
TYPES = {name: types for types, names in _BY_TYPES.items() for name in names.split()}


def cast_pixels_first(model: "ModelProto") -> bool:
    """Turn the 8-bit pixels into float32 before anything else reads them, in place; whether that changed anything.

    0 to 255 are exact in float32, so the outputs stay what they are.
    """
    from onnx import TensorProto, helper

    pixels = {value.name for value in model.graph.input if value.type.tensor_type.elem_type == TensorProto.UINT8}
    moved = set(pixels)
    for node in model.graph.node:  # in the order they run
        read = moved.intersection(node.input)
        if not read or node.op_type in ("Cast", "Shape", "Size"):
            continue
        if node.op_type not in MOVES or (node.op_type == "Concat" and not moved.issuperset(node.input)):
            return False  # something computes with 8-bit numbers; the look for unsupported operators names it
        moved.update(node.output)
    readers = [node for node in model.graph.node if pixels.intersection(node.input)]
    if all(node.op_type == "Cast" for node in readers):
        return False
    casts = []
    for name in sorted(pixels):
        casts.append(
            helper.make_node("Cast", [name], [f"{name}.float32"], name=f"{name}.float32", to=TensorProto.FLOAT)
        )
        for node in readers:
            node.input[:] = [f"{name}.float32" if given == name else given for given in node.input]
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for value in model.graph.value_info:
        if value.name in moved:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return True


def unsupported(model: "ModelProto") -> list[str]:
    """What TensorRT's parser would refuse, one short phrase each, in the order of the graph; empty when all is well."""
    found = [_opset(entry.domain, entry.version) for entry in model.opset_import]
    foreign = [f"{n.domain}.{n.op_type}" for n in model.graph.node if n.domain not in ("", "ai.onnx")]
    if foreign:  # types cannot be followed through operators that the standard does not know
        return list(dict.fromkeys(foreign))
    types = _element_types(model)
    constants = dict(_constants(model))
    pixels = {value.name for value in (*model.graph.input, *model.graph.output)}
    for node in model.graph.node:
        found.append(_refused(node, types, constants, pixels))
    return list(dict.fromkeys(reason for reason in found if reason))


def _opset(domain: str, version: int) -> str | None:
    least, most = OPSETS
    if domain in ("", "ai.onnx") and not least <= version <= most:
        return f"opset {version} (it reads {least} to {most})"
    return None


def _refused(
    node: "NodeProto", types: dict[str, str], constants: dict[str, np.ndarray], at_the_border: set[str]
) -> str | None:
    name = node.op_type
    if name not in TYPES:
        return name
    data = node.input[1] if name == "Where" and len(node.input) > 1 else next(iter(node.input), "")
    element = types.get(data)
    if element is not None and element not in TYPES[name]:
        return f"{name} of {element.lower()}"
    if element == "UINT8" and data not in at_the_border:
        return f"{name} of uint8 inside the graph"
    for output in node.output:
        made = types.get(output)
        if made in ("DOUBLE", "UINT16", "UINT32", "UINT64", "INT16", "STRING"):
            return f"{name} to {made.lower()}"
    rule = RULES.get(name)
    reason = rule(node, constants) if rule else None
    return f"{name} {reason}" if reason else None


def _attribute(node: "NodeProto", name: str, default: object) -> object:
    from onnx import helper

    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return default


def _top_k(node: "NodeProto", constants: dict[str, np.ndarray]) -> str | None:
    most = constants.get(node.input[1])
    if most is not None and most.max() > MOST_TOP_K:
        return f"of {int(most.max())} (at most {MOST_TOP_K})"
    return None if _attribute(node, "sorted", 1) else "unsorted"


def _quantise(node: "NodeProto", constants: dict[str, np.ndarray]) -> str | None:
    """TensorRT's int8 is symmetric and its scales are known when the file is built."""
    if node.input[1] not in constants:
        return "with a scale that is not a constant"
    zero = constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if zero is None:
        absent = len(node.input) < 3 or not node.input[2]
        if absent and node.op_type == "QuantizeLinear" and _attribute(node, "output_dtype", 0) == 0:
            return "to uint8"  # what the standard says where nothing is said
        return None if absent else "with a zero point that is not a constant"
    if str(zero.dtype) != "int8":
        return f"to {zero.dtype}"
    return "with a zero point other than 0" if zero.any() else None


def _reduce(node: "NodeProto", constants: dict[str, np.ndarray]) -> str | None:
    axes = node.input[1] if len(node.input) > 1 else ""
    return "along axes that are not constants" if axes and axes not in constants else None


def _resize(node: "NodeProto", constants: dict[str, np.ndarray]) -> str | None:
    mode = _attribute(node, "mode", b"nearest").decode()
    if mode not in ("nearest", "linear"):
        return f"with mode {mode}"
    if _attribute(node, "antialias", 0):
        return "with antialiasing"
    place = _attribute(node, "coordinate_transformation_mode", b"half_pixel").decode()
    known = ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners")
    return None if place in known else f"with coordinates {place}"


def _pool(node: "NodeProto", constants: dict[str, np.ndarray]) -> str | None:
    if len(node.output) > 1 and node.output[1]:
        return "with its indices"
    return "with dilations" if any(step != 1 for step in _attribute(node, "dilations", [])) else None


def _scatter(node: "NodeProto", constants: dict[str, np.ndarray]) -> str | None:
    reduction = _attribute(node, "reduction", b"none").decode()
    return None if reduction == "none" else f"with reduction {reduction}"


def _layer_norm(node: "NodeProto", constants: dict[str, np.ndarray]) -> str | None:
    return "with its mean or deviation" if any(node.output[1:]) else None


RULES: dict[str, Callable[["NodeProto", dict[str, np.ndarray]], str | None]] = {
    "TopK": _top_k,
    "QuantizeLinear": _quantise,
    "DequantizeLinear": _quantise,
    "Resize": _resize,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "ScatterND": _scatter,
    "LayerNormalization": _layer_norm,
    **{name: _reduce for name in TYPES if name.startswith("Reduce")},
}


def _constants(model: "ModelProto") -> Iterator[tuple[str, np.ndarray]]:
    """Values known when the file is built; of weights only the type, and a 0 for their values."""
    from onnx import TensorProto, helper, numpy_helper

    for tensor in model.graph.initializer:
        small = tensor.data_location != TensorProto.EXTERNAL and tensor.ByteSize() <= SMALL_CONSTANT
        kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        yield tensor.name, numpy_helper.to_array(tensor) if small else np.zeros((), kind)
    for node in model.graph.node:
        if node.op_type == "Constant":
            value = _attribute(node, "value", None)
            yield node.output[0], numpy_helper.to_array(value) if value is not None else np.zeros(())


def _element_types(model: "ModelProto") -> dict[str, str]:
    """Tensor name -> its element type, for all that can be told without the weights."""
    from onnx import TensorProto, shape_inference

    inferred = shape_inference.infer_shapes(_without_weights(model))
    values = [*inferred.graph.input, *inferred.graph.output, *inferred.graph.value_info]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    return {name: TensorProto.DataType.Name(number) for name, number in types.items() if number}


def _without_weights(model: "ModelProto") -> "ModelProto":
    """A copy whose large tensors are inputs: the message stays far below the 2 GB that it may have."""
    from onnx import ModelProto, TensorProto, helper

    bare = ModelProto(ir_version=model.ir_version)
    bare.opset_import.extend(model.opset_import)
    bare.functions.extend(model.functions)
    bare.graph.name = model.graph.name
    for field in ("node", "input", "output", "value_info"):
        getattr(bare.graph, field).extend(getattr(model.graph, field))
    for tensor in model.graph.initializer:
        if tensor.ByteSize() <= SMALL_CONSTANT and tensor.data_location != TensorProto.EXTERNAL:
            bare.graph.initializer.append(tensor)
        else:
            bare.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return bare
