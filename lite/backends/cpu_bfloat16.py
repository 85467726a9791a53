"""What makes large bfloat16 networks quick on a CPU that multiplies bfloat16 in hardware; inference only.

The products themselves run near the machine's rate. What is lost lies around them, and three things are saved here:

- Linear layers. Torch fills the output with the bias before each product and brings the weight into the hardware's
  order every time. Here the weight is ordered once, and bias and GELU are part of the product's one pass.
- InstanceNorm, which torch computes on one channel after the other across the memory of channels-last maps. GroupNorm
  with a group for each channel is the same norm, read in the order the maps lie in. It takes the variance from the mean
  square, which costs digits that bfloat16 does not have, so float32 networks keep InstanceNorm.
- Memory. The allocator gives every block above 32 MB back and asks for it again, page by page, at each layer.
"""

import ctypes
import sys
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's numbers
LEAST_LINEARS = 8  # heads of convolutional networks have one or two, which are not where their time goes


class PackedLinear(nn.Module):
    """A linear layer and its activation ("none", "gelu") in one oneDNN call; bfloat16, CPU."""

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: str = "none") -> None:
        super().__init__()
        self.activation = activation
        self.algorithm = "none" if activation == "gelu" else ""  # of GELU: exact
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
        self.bias = None if bias is None else bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, self.activation, [], self.algorithm)


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
    most = 2**31 - 1
    return bool(mallopt(M_MMAP_THRESHOLD, most)) and bool(mallopt(M_TRIM_THRESHOLD, most))


def quicken(network: nn.Module) -> int:
    """Rewrite a bfloat16 network on the CPU, in eval mode, in place; returns how many linear layers were packed."""
    if not available() or sum(type(module) is nn.Linear for module in network.modules()) < LEAST_LINEARS:
        return 0
    return _quicken(network)


def _quicken(parent: nn.Module) -> int:
    count = 0
    names = list(parent._modules)
    gelu_after = {a: b for a, b in pairwise(names) if _exact_gelu(parent._modules[b])}
    for name in names:
        child = parent._modules[name]
        if type(child) is nn.Linear:
            fused = name in gelu_after and (isinstance(parent, nn.Sequential) or name == "fc1")
            setattr(parent, name, PackedLinear(child.weight, child.bias, "gelu" if fused else "none"))
            if fused:
                setattr(parent, gelu_after[name], nn.Identity())
            count += 1
        elif type(child) is nn.InstanceNorm2d and not child.affine and not child.track_running_stats:
            setattr(parent, name, nn.GroupNorm(child.num_features, child.num_features, child.eps, affine=False))
        elif type(child) is nn.SiLU and isinstance(parent, nn.Sequential):
            child.inplace = True  # nothing else reads what comes before it
        elif child is not None:
            count += _quicken(child)
    return count


def _exact_gelu(module: nn.Module | None) -> bool:
    return type(module) is nn.GELU and module.approximate == "none"


def quicken_program(module: GraphModule) -> int:
    """The same for the module of a bfloat16 exported program, in place; returns how many linear layers were packed."""
    aten = torch.ops.aten
    found = [n for n in module.graph.nodes if n.target is aten.linear.default and n.args[1].op == "get_attr"]
    if not available() or len(found) < LEAST_LINEARS:
        return 0
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    for i, node in enumerate(found):
        weight, bias = (tensors[arg.target] if isinstance(arg, Node) else None for arg in (*node.args[1:], None)[:2])
        readers = list(node.users)
        fused = len(readers) == 1 and readers[0].target is aten.gelu.default and not readers[0].kwargs
        last = readers[0] if fused else node
        module.add_submodule(f"linear_{i}", PackedLinear(weight, bias, "gelu" if fused else "none"))
        with module.graph.inserting_after(last):
            new = module.graph.call_module(f"linear_{i}", (node.args[0],))
        last.replace_all_uses_with(new)
        for old in dict.fromkeys((last, node)):
            module.graph.erase_node(old)
    for node in [n for n in module.graph.nodes if n.target is aten.instance_norm.default]:
        x, weight, bias, mean, variance, _, _, eps, *_ = node.args
        if (weight, bias, mean, variance) == (None, None, None, None):
            channels = x.meta["val"].shape[1]
            with module.graph.inserting_after(node):
                new = module.graph.call_function(aten.group_norm.default, (x, channels, None, None, eps))
            new.meta = dict(node.meta)
            node.replace_all_uses_with(new)
            module.graph.erase_node(node)
            for reader in new.users:
                if reader.target is aten.silu.default and len(new.users) == 1:
                    reader.target = aten.silu_.default
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    return len(found)
