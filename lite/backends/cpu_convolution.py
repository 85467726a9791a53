"""Convolutions of small networks made quick on a CPU: weights packed once, the activation in the same pass.

The same arithmetic as `Conv2d` and the activation after it, by the oneDNN calls that compiled runtimes use. Measured in
float32 on a core with AMX, batches of 8 to 32: a fifth less time for RTMDet-nano, a twentieth less for Lite-HRNet.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

LEAST_CONVOLUTIONS = 20  # transformers have two or three, which are not where their time goes


class PackedConvolution(nn.Module):
    """A convolution and its activation ("none", "relu", "swish") in one oneDNN call; float32, CPU, inference."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        stride: Sequence[int] = (1, 1),
        padding: Sequence[int] = (0, 0),
        dilation: Sequence[int] = (1, 1),
        groups: int = 1,
        activation: str = "none",
    ) -> None:
        super().__init__()
        self.activation = activation
        self.numbers = (list(padding), list(stride), list(dilation), groups)
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(weight.detach(), *self.numbers)
        self.bias = None if bias is None else bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._convolution_pointwise(
            x, self.weight, self.bias, *self.numbers, self.activation, [], ""
        )


def packed(conv: nn.Conv2d, activation: str = "none") -> PackedConvolution:
    """The packed form of a module for which `_packable` holds."""
    return PackedConvolution(conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups, activation)


def available() -> bool:
    """Whether this torch has oneDNN with convolutions that take an activation."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


def pack_program(module: GraphModule) -> int:
    """Rewrite the module of a float32 exported program, in place; returns how many convolutions were packed.

    An activation is taken into the pass when nothing else reads the convolution.
    """
    aten = torch.ops.aten
    activations = {aten.relu.default: "relu", aten.relu_.default: "relu", aten.silu.default: "swish"}
    found = [n for n in module.graph.nodes if n.target is aten.conv2d.default and n.args[1].op == "get_attr"]
    if not available() or len(found) < LEAST_CONVOLUTIONS:
        return 0
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    for i, node in enumerate(found):
        weight, bias, *numbers = (tensors[arg.target] if isinstance(arg, Node) else arg for arg in node.args[1:])
        readers = list(node.users)
        activation = activations.get(readers[0].target) if len(readers) == 1 else None
        last = readers[0] if activation else node
        module.add_submodule(f"packed_{i}", PackedConvolution(weight, bias, *numbers, activation=activation or "none"))
        with module.graph.inserting_after(last):
            new = module.graph.call_module(f"packed_{i}", (node.args[0],))
        last.replace_all_uses_with(new)
        for old in dict.fromkeys((last, node)):
            module.graph.erase_node(old)
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    return len(found)


def pack_convolutions(network: nn.Module, activated: dict[type[nn.Module], str]) -> int:
    """Rewrite a float32 network on the CPU, in eval mode and with its batch norms folded, in place.

    Args:
        network: what to rewrite; left alone when it has few convolutions or this torch has no oneDNN.
        activated: module classes that are a convolution `conv` and an activation after it -> name of the activation.

    Returns:
        How many convolutions were packed.
    """
    if not available() or sum(_packable(module) for module in network.modules()) < LEAST_CONVOLUTIONS:
        return 0
    return _pack(network, activated)


def _pack(parent: nn.Module, activated: dict[type[nn.Module], str]) -> int:
    count = 0
    for name, child in list(parent.named_children()):
        activation = activated.get(type(child))
        if activation and _packable(child.conv):
            setattr(parent, name, packed(child.conv, activation))
            count += 1
        elif _packable(child):
            setattr(parent, name, packed(child))
            count += 1
        else:
            count += _pack(child, activated)
    return count


def _packable(module: nn.Module) -> bool:
    """Whether oneDNN can be given this convolution as it is."""
    return type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str)
