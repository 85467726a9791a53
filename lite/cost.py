"""How much arithmetic a network is: what its measured speed is divided by."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

ATEN = torch.ops.aten


class ProductCounter(TorchDispatchMode):
    """Counts the matrix products of everything that runs inside `with`; convolutions and attention are such products.

    Works on real and on fake tensors. Element-wise work, norms and interpolation are not counted: they are what a
    network can be slower for than its products.

    Attributes:
        products: (rows, inner, columns) -> how often; attention is kept apart in `attention`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.products: Counter[tuple[int, int, int]] = Counter()
        self.attention: Counter[tuple[int, int, int]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        if packet in (ATEN.mm, ATEN.addmm):
            left, right = args[-2:]
            self.products[(left.shape[0], left.shape[1], right.shape[1])] += 1
        elif packet in (ATEN.bmm, ATEN.baddbmm):
            left, right = args[-2:]
            self.attention[(left.shape[1], left.shape[2], right.shape[2])] += left.shape[0]
        elif packet is ATEN.convolution:
            self._convolution(args, out)
        elif "scaled_dot_product" in func.name() and "backward" not in func.name():
            (batch, heads, queries, width), keys = args[0].shape, args[1].shape[2]
            self.attention[(queries, width, keys)] += batch * heads
            self.attention[(queries, keys, args[2].shape[3])] += batch * heads
        return out

    def _convolution(self, args: tuple, out: Tensor) -> None:
        x, weight, transposed, groups = args[0], args[1], args[6], args[8]
        # A transposed convolution multiplies each input cell, a plain one makes each output cell.
        cells = x if transposed else out
        rows = cells.shape[0] * cells[0, 0].numel()
        columns = weight.shape[0] // groups if not transposed else weight[0].numel()
        inner = weight[0].numel() if not transposed else weight.shape[0] // groups
        self.products[(rows, inner, columns)] += groups

    def flops(self) -> int:
        """Floating-point operations so far, two for each multiply-add."""
        counted = [*self.products.items(), *self.attention.items()]
        return sum(2 * m * k * n * times for (m, k, n), times in counted)

    def trunk_matrix(self) -> tuple[int, int, int] | None:
        """(rows, inner, columns) of the product, attention aside, that most operations are spent on."""
        if not self.products:
            return None
        return max(self.products, key=lambda shape: shape[0] * shape[1] * shape[2] * self.products[shape])
