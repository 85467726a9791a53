"""A float32 ONNX graph with explicit 8-bit quantisation: int8 weights and activations where the multiplications are.

Which layers. Every convolution, transposed convolution and matrix product of the network that has constant weights and
mixes all channels. Not: depthwise convolutions, which are a fraction of the work and lose the most (pose17-small on 45
annotated people, mean OKS 0.825 in float32: 0.777 with them in 8 bits, 0.822 without); attention's products of two
activations, norms, activation functions, sums, normalisation and decode. These are float32.

How. Weights symmetric with a scale per output channel. Activations symmetric with one scale per tensor and zero point
0, which is the only form TensorRT takes, from the mean over crops of each crop's own extremes: single outliers of one
crop do not stretch the scale for all. The extremes are found inside the graph, so that the memory needed is that of one
forward pass. Rounding the outputs of convolutions and the sums as well (what ONNX Runtime's own quantiser does) gave
0.754 on the same people.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lite.artifact import ArtifactSpec
from lite.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    import onnx_ir

# Operator -> axis of the output channels in its weights.
CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1, "MatMul": 1, "Gemm": 0}
# Modules that stay float32 besides, a small share of the work. The stem and head of pose17-small: with them in 8 bits
# the 95th percentile of shifts on the check crops is 5.3 px, without 1.9 px. RTMDet's head, and the first two stages,
# which see the largest maps: end to end on 50 pictures AP 0.556 with those stages in 8 bits, 0.579 without, 0.586 in
# float32 (in which the neck made no difference).
EXACT = (
    "network.stem",
    "network.head.narrow",
    "network.head.final",
    "network.bbox_head",
    "network.backbone.stem",
    "network.backbone.stage1",
)
SMALLEST = 1e-8  # scale of what is always 0


def quantise(model: "onnx_ir.Model", spec: ArtifactSpec, crops: np.ndarray) -> "onnx_ir.Model":
    """Put quantise/dequantise pairs before the heavy operators and store their weights in 8 bits, in place.

    Args:
        model: as `export.to_onnx.onnx_model` gives it, float32.
        crops: (N, h, w, 3) uint8 RGB, of the kind the network will see.

    Raises:
        ConfigError: there is nothing to quantise.
        MissingExtraError: ONNX Runtime, which finds the value ranges, is not installed.
    """
    nodes = heavy_nodes(model)
    if not nodes:
        raise ConfigError(f"mode: {spec.model} has no layer that could be int8; export it in another mode")
    scales = activation_scales(model, nodes, crops)
    activations: dict[str, onnx_ir.Value] = {}
    weights: dict[str, onnx_ir.Value] = {}
    for node in nodes:
        data, weight = node.inputs[:2]
        if data.name not in activations:
            activations[data.name] = _quantised_activation(model, data, scales[data.name])
        if weight.name not in weights:
            weights[weight.name] = _quantised_weight(model, weight, _channel_axis(node), nodes[0])
        node.replace_input_with(0, activations[data.name])
        node.replace_input_with(1, weights[weight.name])
    for name in weights:
        if not model.graph.initializers[name].uses():
            del model.graph.initializers[name]
    return model


def heavy_nodes(model: "onnx_ir.Model") -> "list[onnx_ir.Node]":
    """The nodes to quantise, in the order of the graph."""
    return [
        node
        for node in model.graph
        if node.op_type in CHANNEL_AXIS
        and node.name.startswith("network")
        and not node.name.startswith(EXACT)
        and node.inputs[1].is_initializer()
        and not node.inputs[0].is_initializer()
        and _attribute(node, "group", 1) == 1
        and not (node.op_type == "MatMul" and len(node.inputs[1].shape) != 2)
        and not (node.op_type == "Gemm" and _attribute(node, "transA", 0))
    ]


def activation_scales(model: "onnx_ir.Model", nodes: "list[onnx_ir.Node]", crops: np.ndarray) -> dict[str, np.float32]:
    """Scale of each tensor that `nodes` read: the mean over crops of a crop's largest magnitude, over 127."""
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("onnxruntime", "onnx", "the calibration of int8") from None
    import onnx_ir

    from export.to_onnx import write_onnx

    values = list({node.inputs[0].name: node.inputs[0] for node in nodes}.values())
    probes = []
    for value in values:
        size = onnx_ir.node("Abs", [value])
        pair = [size, onnx_ir.node("ReduceMax", size.outputs, {"keepdims": 0})]
        producer = value.producer()
        if producer is None:
            model.graph.insert_before(model.graph[0], pair)
        else:
            model.graph.insert_after(producer, pair)
        probes += pair
    outputs = [probe.outputs[0] for probe in probes[1::2]]
    for number, output in enumerate(outputs):
        output.name, output.shape = f"largest_{number}", onnx_ir.Shape(())
        output.type = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
    model.graph.outputs.extend(outputs)
    with tempfile.TemporaryDirectory(prefix="hpe-lite-") as folder:
        write_onnx(model, Path(folder) / "probed.onnx")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # One node after the other as they stand, so that a tensor is measured when it is made and then let go; in the
        # runtime's own order all of them would be kept to the end.
        options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_mem_pattern = False
        session = onnxruntime.InferenceSession(f"{folder}/probed.onnx", options, ["CPUExecutionProvider"])
        names = [output.name for output in outputs]
        largest = np.mean([session.run(names, {"pixels": crop[None]}) for crop in crops], axis=0)
    del model.graph.outputs[-len(outputs) :]
    model.graph.remove(probes, safe=True)
    return {value.name: np.float32(max(most / 127, SMALLEST)) for value, most in zip(values, largest)}


def quantised(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """int8 weights and the float32 scale of each channel along `axis`."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = np.maximum(np.abs(weight).max(axis=others) / 127, SMALLEST).astype(np.float32)
    whole = np.round(weight / np.expand_dims(scale, others))
    return np.clip(whole, -127, 127).astype(np.int8), scale


def _channel_axis(node: "onnx_ir.Node") -> int:
    if node.op_type == "Gemm" and not _attribute(node, "transB", 0):
        return 1
    return CHANNEL_AXIS[node.op_type]


def _attribute(node: "onnx_ir.Node", name: str, default: int) -> int:
    return node.attributes[name].as_int() if name in node.attributes else default


def _quantised_activation(model: "onnx_ir.Model", value: "onnx_ir.Value", scale: np.float32) -> "onnx_ir.Value":
    """`value` rounded to 8 bits right where it is made."""
    import onnx_ir

    numbers = [_constant(model, f"{value.name}/{what}", one) for what, one in (("scale", scale), ("zero", np.int8(0)))]
    down = onnx_ir.node("QuantizeLinear", [value, *numbers], name=f"{value.name}/QuantizeLinear")
    up = onnx_ir.node("DequantizeLinear", [down.outputs[0], *numbers], name=f"{value.name}/DequantizeLinear")
    for node, kind in ((down, "int8"), (up, "float32")):
        node.outputs[0].name = f"{value.name}/{kind}"
    producer = value.producer()
    if producer is None:
        model.graph.insert_before(model.graph[0], [down, up])
    else:
        model.graph.insert_after(producer, [down, up])
    return up.outputs[0]


def _quantised_weight(
    model: "onnx_ir.Model", weight: "onnx_ir.Value", axis: int, before: "onnx_ir.Node"
) -> "onnx_ir.Value":
    """A constant in 8 bits and its way back to float32."""
    import onnx_ir

    whole, scale = quantised(weight.const_value.numpy(), axis)
    parts = (("int8", whole), ("scale", scale), ("zero", np.zeros(len(scale), np.int8)))
    inputs = [_constant(model, f"{weight.name}/{what}", one) for what, one in parts]
    up = onnx_ir.node("DequantizeLinear", inputs, {"axis": axis}, name=f"{weight.name}/DequantizeLinear")
    up.outputs[0].name = f"{weight.name}/float32"
    model.graph.insert_before(before, up)
    return up.outputs[0]


def _constant(model: "onnx_ir.Model", name: str, value: np.ndarray) -> "onnx_ir.Value":
    import onnx_ir

    made = onnx_ir.Value(name=name, const_value=onnx_ir.tensor(np.asarray(value), name=name))
    made.shape, made.type = made.const_value.shape, onnx_ir.TensorType(made.const_value.dtype)
    model.graph.register_initializer(made)
    return made
