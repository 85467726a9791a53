"""CSPNeXt, the trunk of RTMDet, and the convolutions its neck and head are made of too.

Source: mmdetection 3.3.0, models/backbones/cspnext.py, models/layers/csp_layer.py.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-5  # every released configuration; mmdetection's own default of 1e-3 is never used by them


class ConvModule(nn.Module):
    """Convolution, batch norm, SiLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, eps: float = EPS
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.bn(self.conv(x)))


class DepthwiseSeparable(nn.Module):
    """Depthwise then pointwise `ConvModule`."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, eps: float = EPS) -> None:
        super().__init__()
        self.depthwise_conv = ConvModule(inputs, inputs, kernel, stride, groups=inputs, eps=eps)
        self.pointwise_conv = ConvModule(inputs, outputs, 1, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise_conv(self.depthwise_conv(x))


def conv3x3(depthwise: bool, inputs: int, outputs: int, stride: int, eps: float) -> nn.Module:
    """A 3x3 convolution of the kind the model uses."""
    return (DepthwiseSeparable if depthwise else ConvModule)(inputs, outputs, 3, stride, eps=eps)


class Block(nn.Module):
    """CSPNeXt block: 3x3, then 5x5 depthwise separable, and the input added if `add`."""

    def __init__(self, width: int, add: bool, depthwise: bool, eps: float) -> None:
        super().__init__()
        self.conv1 = conv3x3(depthwise, width, width, 1, eps)
        self.conv2 = DepthwiseSeparable(width, width, 5, eps=eps)
        self.add = add

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x))
        return y + x if self.add else y


class ChannelAttention(nn.Module):
    """Each channel scaled by a hard sigmoid of the channel means."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.fc(x.mean((2, 3), keepdim=True)))


class CSPLayer(nn.Module):
    """Half the channels through the blocks, half past them, joined by a 1x1 convolution."""

    def __init__(
        self, inputs: int, outputs: int, depth: int, *, add: bool, attention: bool, depthwise: bool, eps: float
    ) -> None:
        super().__init__()
        half = outputs // 2
        self.main_conv = ConvModule(inputs, half, 1, eps=eps)
        self.short_conv = ConvModule(inputs, half, 1, eps=eps)
        self.final_conv = ConvModule(2 * half, outputs, 1, eps=eps)
        self.blocks = nn.Sequential(*(Block(half, add, depthwise, eps) for _ in range(depth)))
        if attention:
            self.attention = ChannelAttention(2 * half)
        self.has_attention = attention

    def forward(self, x: Tensor) -> Tensor:
        short = self.short_conv(
            x
        )  # first, as in the published graphs: scripts/convert_rtmdet_onnx.py relies on the order
        y = torch.cat((self.blocks(self.main_conv(x)), short), 1)
        return self.final_conv(self.attention(y) if self.has_attention else y)


class SPP(nn.Module):
    """Max pools of 5, 9 and 13 px beside the input. A 9 px pool is two of 5 px in a row, a 13 px pool three."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.conv1 = ConvModule(width, width // 2, 1, eps=eps)
        self.conv2 = ConvModule(width // 2 * 4, width, 1, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        pooled = [self.conv1(x)]
        for _ in range(3):
            pooled.append(F.max_pool2d(pooled[-1], 5, 1, 2))
        return self.conv2(torch.cat(pooled, 1))


class CSPNeXt(nn.Module):
    """Trunk: maps at strides 8, 16 and 32.

    Args:
        widths: channels of the first stem half, the stem, and stages 1 to 4.
        depths: blocks in stages 1 to 4.
        depthwise: 3x3 convolutions are depthwise separable.
    """

    def __init__(self, widths: Sequence[int], depths: Sequence[int], depthwise: bool, eps: float) -> None:
        super().__init__()
        half, first, *stages = widths
        self.stem = nn.Sequential(
            ConvModule(3, half, 3, 2, eps=eps), ConvModule(half, half, 3, eps=eps), ConvModule(half, first, 3, eps=eps)
        )
        inputs = first
        for i, (width, depth) in enumerate(zip(stages, depths, strict=True), start=1):
            last = i == len(stages)
            parts = [conv3x3(depthwise, inputs, width, 2, eps)]
            if last:
                parts.append(SPP(width, eps))
            parts.append(CSPLayer(width, width, depth, add=not last, attention=True, depthwise=depthwise, eps=eps))
            self.add_module(f"stage{i}", nn.Sequential(*parts))
            inputs = width

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c3 = self.stage2(self.stage1(self.stem(x)))  # (B, c3, h/8, w/8)
        c4 = self.stage3(c3)  # (B, c4, h/16, w/16)
        return c3, c4, self.stage4(c4)  # (B, c5, h/32, w/32)
