"""What makes large bfloat16 networks quick on a CPU that multiplies bfloat16 in hardware; inference only.

The products themselves run near the machine's rate. What is lost lies around them, and three things are saved here:

- Linear layers and deconvolutions. Torch fills the output of a linear layer with the bias before each product and
  brings weights into the hardware's order every time. Here a weight is ordered once, and bias, activation and, in
  exported programs, the addition to the residual stream are part of the product's one pass.
- InstanceNorm, which torch computes on one channel after the other across the memory of channels-last maps. GroupNorm
  with a group for each channel is the same norm, read in the order the maps lie in. It takes the variance from the mean
  square, which costs digits that bfloat16 does not have, so float32 networks keep InstanceNorm.
- Memory. The allocator gives every block above 32 MB back and asks for it again, page by page, at each layer.
"""

import ctypes
import sys
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's numbers
LARGEST_KEPT = 2**30  # bytes; larger blocks, which are no network's maps, go back at once as before
LEAST_LINEARS = 8  # heads of convolutional networks have one or two, which are not where their time goes


class PackedLinear(nn.Module):
    """A linear layer and its activation ("none", "gelu") in one oneDNN call; bfloat16, CPU."""

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: str = "none") -> None:
        super().__init__()
        self.activation = activation
        self.algorithm = "none" if activation == "gelu" else ""  # of GELU: exact
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
        self.bias = None if bias is None else bias.detach()

    def forward(self, x: Tensor, stream: Tensor | None = None) -> Tensor:
        """The layer of x; added to `stream`, of the shape of the result, where it is given."""
        if stream is not None:
            return torch.ops.mkldnn._linear_pointwise.binary(x, stream, self.weight, self.bias, "add")
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, self.activation, [], self.algorithm)


class PackedDeconvolution(nn.Module):
    """A transposed convolution and its activation ("none", "relu") in one oneDNN call; channels-last, bfloat16, CPU.

    The order its weight is best kept in depends on the size of what comes in, so it is found at the first call; an
    order found without a size made the deconvolutions of Sapiens four to eight times slower.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        stride: Sequence[int],
        padding: Sequence[int],
        activation: str = "none",
    ) -> None:
        super().__init__()
        self.activation = activation
        self.numbers = (list(padding), [0, 0], list(stride), [1, 1], 1)
        self.weight = weight.detach().to(memory_format=torch.channels_last)
        self.bias = None if bias is None else bias.detach()
        self.ordered: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        ordered = self.ordered
        if ordered is None:
            order = torch.ops.mkldnn._reorder_convolution_transpose_weight
            ordered = self.ordered = order(self.weight, *self.numbers, list(x.shape))
        return torch.ops.mkldnn._convolution_transpose_pointwise(
            x, ordered, self.bias, *self.numbers, self.activation, [], ""
        )


def available() -> bool:
    """Whether this torch and processor multiply bfloat16 in hardware through oneDNN."""
    return (
        torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
    )


def keep_memory() -> bool:
    """Let this process keep large blocks it has freed, to use them for the next layer; returns whether it could.

    Measured on two cores: a product into a fresh block of 75 MB took 62 ms, into one that was kept 36 ms.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)) and bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def quicken(network: nn.Module) -> int:
    """Rewrite a bfloat16 network on the CPU, in eval mode, in place; returns how many linear layers were packed."""
    if not available() or sum(type(module) is nn.Linear for module in network.modules()) < LEAST_LINEARS:
        return 0
    return _quicken(network)


def _quicken(parent: nn.Module) -> int:
    count = 0
    names = list(parent._modules)
    after = _activations(parent)
    for name in names:
        child = parent._modules[name]
        follower = after.get(name)
        if type(child) is nn.Linear:
            fused = _exact_gelu(parent._modules.get(follower))
            setattr(parent, name, PackedLinear(child.weight, child.bias, "gelu" if fused else "none"))
            count += 1
        elif _packable(child):
            fused = type(parent._modules.get(follower)) is nn.ReLU
            numbers = (child.stride, child.padding, "relu" if fused else "none")
            setattr(parent, name, PackedDeconvolution(child.weight, child.bias, *numbers))
        elif type(child) is nn.InstanceNorm2d and not child.affine and not child.track_running_stats:
            setattr(parent, name, nn.GroupNorm(child.num_features, child.num_features, child.eps, affine=False))
            fused = False
        elif type(child) is nn.SiLU and isinstance(parent, nn.Sequential):
            child.inplace = True  # nothing else reads what comes before it
            fused = False
        else:
            count += 0 if child is None else _quicken(child)
            fused = False
        if fused:
            setattr(parent, follower, nn.Identity())
    return count


def _activations(parent: nn.Module) -> dict[str, str]:
    """Name of a child -> name of the child that reads it and nothing else does, where the parent shows that."""
    if isinstance(parent, nn.Sequential):
        return dict(pairwise(name for name, child in parent._modules.items() if type(child) is not nn.Identity))
    return {"fc1": "act"}  # as the feed-forward layers of our transformers are named


def _packable(module: nn.Module | None) -> bool:
    plain = type(module) is nn.ConvTranspose2d and module.groups == 1 and module.dilation == (1, 1)
    return plain and module.output_padding == (0, 0)


def _exact_gelu(module: nn.Module | None) -> bool:
    return type(module) is nn.GELU and module.approximate == "none"


def quicken_program(module: GraphModule) -> int:
    """The same for the module of a bfloat16 exported program, in place; returns how many linear layers were packed."""
    aten, graph = torch.ops.aten, module.graph
    found = [n for n in graph.nodes if n.target is aten.linear.default and n.args[1].op == "get_attr"]
    if not available() or len(found) < LEAST_LINEARS:
        return 0
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    for i, node in enumerate(found):
        weight, bias = _tensors(node, tensors)
        reader = _only_reader(node)
        gelu = reader is not None and reader.target is aten.gelu.default and not reader.kwargs
        stream = None if gelu else _stream(node, reader)
        module.add_submodule(f"linear_{i}", PackedLinear(weight, bias, "gelu" if gelu else "none"))
        inputs = (node.args[0],) if stream is None else (node.args[0], stream)
        _replace(graph, [reader, node] if gelu or stream is not None else [node], f"linear_{i}", inputs)
    for i, node in enumerate([n for n in graph.nodes if n.target is aten.conv_transpose2d.input]):
        x, _, _, stride, padding, output_padding, groups, dilation = (*node.args, *DEFAULTS[len(node.args) :])
        if (list(output_padding), groups, list(dilation)) == ([0, 0], 1, [1, 1]) and node.args[1].op == "get_attr":
            reader = _only_reader(node)
            relu = reader is not None and reader.target is aten.relu.default
            packed = PackedDeconvolution(*_tensors(node, tensors), stride, padding, "relu" if relu else "none")
            module.add_submodule(f"deconvolution_{i}", packed)
            _replace(graph, [reader, node] if relu else [node], f"deconvolution_{i}", (x,))
    for node in [n for n in graph.nodes if n.target is aten.instance_norm.default]:
        x, weight, bias, mean, variance, _, _, eps, *_ = node.args
        if (weight, bias, mean, variance) == (None, None, None, None):
            with graph.inserting_after(node):
                channels = node.meta["val"].shape[1]
                new = graph.call_function(aten.group_norm.default, (x, channels, None, None, eps))
            node.replace_all_uses_with(new)
            graph.erase_node(node)
            reader = _only_reader(new)
            if reader is not None and reader.target is aten.silu.default:
                reader.target = aten.silu_.default
    graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    return len(found)


# Of aten.conv_transpose2d: input, weight, bias, stride, padding, output_padding, groups, dilation.
DEFAULTS = (None, None, None, (1, 1), (0, 0), (0, 0), 1, (1, 1))


def _tensors(node: Node, tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a layer."""
    weight, bias = (tensors[arg.target] if isinstance(arg, Node) else None for arg in (*node.args[1:], None)[:2])
    return weight, bias


def _only_reader(node: Node) -> Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _stream(node: Node, reader: Node | None) -> Node | None:
    """What the result of a layer is added to, when that has its shape and dtype and was there before."""
    if reader is None or reader.target is not torch.ops.aten.add.Tensor or reader.kwargs:
        return None
    other = reader.args[1] if reader.args[0] is node else reader.args[0]
    if other is node or not isinstance(other, Node) or other > node:
        return None
    value, wanted = other.meta.get("val"), node.meta["val"]
    return other if value is not None and (value.shape, value.dtype) == (wanted.shape, wanted.dtype) else None


def _replace(graph: Graph, nodes: list[Node], name: str, inputs: tuple[Node, ...]) -> None:
    """A call of a submodule instead of nodes, of which the first is the last to run."""
    with graph.inserting_after(nodes[0]):
        new = graph.call_module(name, inputs)
    new.meta["val"] = nodes[0].meta["val"]
    nodes[0].replace_all_uses_with(new)
    for node in nodes:
        graph.erase_node(node)
