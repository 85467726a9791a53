"""An OpenVINO model cut into normalisation, network and decode, so that only the network computes in reduced precision.

OpenVINO's precision hint holds for a whole model: with bfloat16 it also rounds cell indices and coordinates, which
moves keypoints by hundreds of pixels. So a reduced model is compiled as three: what comes before the first convolution
and what comes after the last one are models of their own, compiled in float32; tensors pass between them without being
copied.

The rule needs no names, so it holds for any file: every network here begins and ends with convolutions, and no codec
contains one.
"""

from dataclasses import dataclass
from typing import Any

CONVOLUTIONS = (
    "Convolution",
    "GroupConvolution",
    "ConvolutionBackpropData",
    "GroupConvolutionBackpropData",
)
# A quantised network begins where its input is quantised.
QUANTISERS = ("FakeQuantize",)
NORMALISE, NETWORK, DECODE = range(3)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A model that reads named tensors and makes named tensors; `reads[i]` is input i, `makes[i]` output i."""

    model: Any
    reads: tuple[str, ...]
    makes: tuple[str, ...]


def split(model: Any) -> list[Part]:
    """The three parts of a model, in order; together they compute what it computes. `model` is left as it is.

    Args:
        model: an `openvino.Model` with one input, the pixels.

    Raises:
        ValueError: a model without a convolution.
    """
    stage = stages(model)
    if NETWORK not in stage.values():
        raise ValueError("a network without convolutions")
    return [_part(model.clone(), stage, number) for number in (NORMALISE, NETWORK, DECODE)]


def whole(model: Any) -> list[Part]:
    """The model uncut, as the only part."""
    outputs = tuple(output.get_any_name() for output in model.outputs)
    return [Part(model=model, reads=(model.input(0).get_any_name(),), makes=outputs)]


def stages(model: Any) -> dict[str, int]:
    """Stage of every operation that depends on the pixels, by its name (unique in a model)."""
    order = model.get_ordered_ops()
    depends: set[str] = set()
    changes: set[str] = set()  # with the pixels themselves, not only with how many there are
    begun: set[str] = set()  # in the network or after it
    for node in order:
        sources = {value.get_node().get_friendly_name() for value in node.input_values()}
        if node.get_type_name() == "Parameter" or sources & depends:
            depends.add(node.get_friendly_name())
        if node.get_type_name() == "Parameter" or (sources & changes and node.get_type_name() != "ShapeOf"):
            changes.add(node.get_friendly_name())
        starts = node.get_type_name() in CONVOLUTIONS + QUANTISERS and node.get_friendly_name() in depends
        if starts or sources & begun:
            begun.add(node.get_friendly_name())
    ahead: set[str] = set()  # a convolution with its bias, or something one of them needs
    for node in reversed(order):
        name = node.get_friendly_name()
        if name in ahead or (name in depends and (node.get_type_name() in CONVOLUTIONS or _is_bias(node, changes))):
            ahead.update({name} | {value.get_node().get_friendly_name() for value in node.input_values()})
    return {name: NORMALISE if name not in begun else NETWORK if name in ahead else DECODE for name in depends}


def _is_bias(node: Any, changes: set[str]) -> bool:
    """Whether it adds constants to a convolution, which the runtime does in the same pass."""
    changing = [value.get_node() for value in node.input_values() if value.get_node().get_friendly_name() in changes]
    return node.get_type_name() == "Add" and len(changing) == 1 and changing[0].get_type_name() in CONVOLUTIONS


def _part(model: Any, stage: dict[str, int], number: int) -> Part:
    """Stage `number` of a copy of the model, which is taken apart.

    Only floating-point tensors are handed over. What is made of integers (sizes of the batch) is computed anew in each
    part that needs it, from the pixels.
    """
    from openvino import Model, opset13

    parameters: dict[str, Any] = {}
    results: dict[str, Any] = {}
    for node in model.get_ordered_ops():
        here = stage.get(node.get_friendly_name(), -1)
        for i, source in enumerate(node.input_values()):
            name = f"{source.get_node().get_friendly_name()}:{source.get_index()}"
            there = stage.get(source.get_node().get_friendly_name(), here)
            if there >= here or not source.get_element_type().is_real():
                continue
            if there <= number < here:
                results.setdefault(name, source)
            if there < number <= here:
                if name not in parameters:
                    shape, kind = source.get_partial_shape(), source.get_element_type()
                    parameters[name] = opset13.parameter(shape, kind, name=name)
                if here == number:
                    node.input(i).replace_source_output(parameters[name].output(0))
    if number == DECODE:
        results = {output.get_any_name(): output.get_node().input_value(0) for output in model.outputs}
    pixels = {model.input(0).get_any_name(): model.input(0).get_node()}
    made = [opset13.result(value, name=name) for name, value in results.items()]
    inputs = {name: parameter for name, parameter in (pixels | parameters).items() if _needs(made, parameter)}
    cut = Model(made, list(inputs.values()), f"part{number}")
    return Part(model=cut, reads=tuple(inputs), makes=tuple(results))


def _needs(results: list[Any], parameter: Any) -> bool:
    """Whether any of the results is made of the parameter."""
    wanted = parameter.get_friendly_name()
    waiting, seen = list(results), set()
    while waiting:
        node = waiting.pop()
        if node.get_friendly_name() == wanted:
            return True
        for value in node.input_values():
            source = value.get_node()
            if source.get_friendly_name() not in seen:
                seen.add(source.get_friendly_name())
                waiting.append(source)
    return False
