"""Lite-HRNet "wider naive": parallel resolutions of shuffle units, the network of the embedded default `pose17-small`.

Channels are never shuffled here. Interleaving two halves only renumbers channels, so the numbers are kept beside the
tensors (`order`) and the weights of whoever reads them are arranged accordingly, once, when weights are converted: a
fifth of the time of a forward pass in bfloat16 is saved. A side effect: the first convolution of a unit sees
all channels, not only the half that the original lets it see; converted weights are 0 there.

Source: Lite-HRNet (Yu et al., CVPR 2021) in the variant of PaddleDetection's PP-TinyPose: shuffle units without
cross-resolution weighting, batch normalisation folded into the convolutions, an iterative head. Where that variant
departs from the paper (the doubled first term of every fusion, the finest branch fused in place) so does this one.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lite.artifact import ArtifactSpec, CropRule, spec_from_dict
from lite.errors import CheckpointError
from lite.models.lite_hrnet_rows import ZOO_ROWS
from lite.models.strict import load_strictly

__all__ = ["ZOO_ROWS", "LiteHRNet", "lite_hrnet_from_state_dict", "match_lite_hrnet", "pose17_small"]

CHANNELS = (40, 80, 160, 320)
MODULES = (2, 4, 2)
_UNITS = 2
Order = tuple[int, ...]


class Separable(nn.Sequential):
    """A 3x3 convolution of each channel and a 1x1 convolution across them, with nothing in between."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels),
            nn.Conv2d(in_channels, out_channels, 1),
        )


def doubled(x: Tensor) -> Tensor:
    """(B, c, h, w) -> (B, c, 2h, 2w), each value four times."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Stem(nn.Module):
    """Picture to 32 channels at a quarter of its size."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, 2, 1)
        self.second = nn.Conv2d(3, 16, 3, 2, 1)
        self.down = Separable(16, 16, 2)
        self.expand = nn.Conv2d(16, 32, 1)
        self.reduce = Separable(32, 16, 2)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down(self.first(x).relu_()).relu_()
        b = self.reduce(self.expand(self.second(x).relu_()).relu_()).relu_()
        return torch.cat((a, b), 1)  # (B, 32, h/4, w/4)


class ShuffleUnit(nn.Module):
    """Half of the channels pass, the other half is replaced by something computed.

    Args:
        order: for each stored channel its number in the original network; those of the lower half pass.

    Attributes:
        next_order: the same for the result: those that pass have their numbers doubled, new ones get the odd numbers.
    """

    def __init__(self, order: Order) -> None:
        super().__init__()
        half = len(order) // 2
        self.order = order
        self.mix = nn.Conv2d(2 * half, half, 1)
        self.conv = Separable(half, half)
        passing = [place for place, number in enumerate(order) if number < half]
        self.next_order = tuple(2 * order[place] for place in passing) + tuple(range(1, 2 * half, 2))
        starts = [place for place in passing if place - 1 not in passing]
        stops = [place + 1 for place in passing if place + 1 not in passing]
        self.runs = tuple(zip(starts, stops))
        self.register_buffer("passing", torch.tensor(passing, device="cpu"), persistent=False)  # also under meta

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv(self.mix(x).relu_()).relu_()
        if len(self.runs) <= 2 or self.training or x.dtype != torch.float32:
            return torch.cat((*(x[:, start:stop] for start, stop in self.runs), new), 1)
        # The same as rows of pixels: twice as quick in float32 where many short runs pass, slower in bfloat16.
        batch, channels, height, width = x.shape
        pixels = x.permute(0, 2, 3, 1).reshape(-1, channels).index_select(1, self.passing)
        joined = torch.cat((pixels, new.permute(0, 2, 3, 1).reshape(-1, channels // 2)), 1)
        return joined.view(batch, height, width, channels).permute(0, 3, 1, 2)


class Down(nn.Sequential):
    """`steps` halvings from branch `j` to a coarser one; ReLU between steps, none after the last."""

    def __init__(self, in_channels: int, out_channels: int, steps: int) -> None:
        layers: list[nn.Module] = []
        for step in range(steps):
            last = step == steps - 1
            layers.append(Separable(in_channels, out_channels if last else in_channels, 2))
            if not last:
                layers.append(nn.ReLU())
        super().__init__(*layers)


class Fusion(nn.Module):
    """Every branch receives every other, brought to its size."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.rows = nn.ModuleList(
            nn.ModuleDict(
                {
                    str(j): nn.Conv2d(channels[j], channels[i], 1) if j > i else Down(channels[j], channels[i], i - j)
                    for j in range(len(channels))
                    if j != i
                }
            )
            for i in range(len(channels))
        )

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        finest = x[0]
        out = []
        for i, row in enumerate(self.rows):
            y = None
            for j in range(len(x) - 1, i, -1):  # coarse to fine, so that only the last doubling is of full size
                y = row[str(j)](x[j]) if y is None else doubled(y).add_(row[str(j)](x[j]))
            if i == 0:
                y = finest = doubled(y).add_(x[0], alpha=2)  # the coarser rows read the fused finest branch
                out.append(y.relu())
                continue
            first = row["0"](finest).add_(x[i])
            y = first if y is None else doubled(y).add_(first)
            for j in range(1, i):
                y.add_(row[str(j)](x[j]))
            out.append(y.relu_())
        return out


class Stage(nn.Module):
    """One more branch than before, then modules of shuffle units and a fusion.

    Args:
        orders: of the branches that exist already (none: this is the first stage); see `ShuffleUnit`.
        channels: of every branch.

    Attributes:
        orders: of the branches at the end.
    """

    def __init__(self, orders: list[Order], channels: tuple[int, ...], num_modules: int) -> None:
        super().__init__()
        entries = [] if orders else [Separable(32, channels[0])]
        entries.append(Separable(channels[-2] if orders else 32, channels[-1], 2))
        self.entries = nn.ModuleList(entries)
        orders = [*orders, *(tuple(range(c)) for c in channels[len(orders) :])]
        self.blocks = nn.ModuleList()
        for _ in range(num_modules):
            branches = nn.ModuleList()
            for i, order in enumerate(orders):
                units = []
                for _ in range(_UNITS):
                    units.append(ShuffleUnit(order))
                    order = units[-1].next_order
                branches.append(nn.Sequential(*units))
                orders[i] = order
            self.blocks.append(nn.ModuleDict({"branches": branches, "fusion": Fusion(channels)}))
        self.orders = orders

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        new = [entry(x[-1]).relu_() for entry in self.entries]
        x = new if len(new) == 2 else [*x, *new]
        for block in self.blocks:
            x = block["fusion"]([branch(y) for branch, y in zip(block["branches"], x)])
        return x


class Head(nn.Module):
    """From coarse to fine: narrow, double, add; then one map a keypoint."""

    def __init__(self, channels: tuple[int, ...], num_keypoints: int) -> None:
        super().__init__()
        narrower = (channels[0], *channels[:-1])
        self.narrow = nn.ModuleList(Separable(c, n) for c, n in zip(channels[::-1], narrower[::-1]))
        self.final = nn.Conv2d(channels[0], num_keypoints, 1)

    def forward(self, x: list[Tensor]) -> Tensor:
        y = x[-1]
        for level, narrow in zip(range(len(x) - 1, -1, -1), self.narrow):
            if level < len(x) - 1:
                y = F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=True).add_(x[level])
            y = narrow(y).relu_()
        return self.final(y)  # (B, K, h/4, w/4)


class LiteHRNet(nn.Module):
    """(B, 3, h, w) normalised float32, h and w multiples of 32 -> {"heatmaps": (B, K, h/4, w/4)}."""

    def __init__(
        self, num_keypoints: int = 17, channels: tuple[int, ...] = CHANNELS, modules: tuple[int, ...] = MODULES
    ) -> None:
        super().__init__()
        self.stem = Stem()
        self.stages = nn.ModuleList()
        orders: list[Order] = []
        for i, num_modules in enumerate(modules):
            self.stages.append(Stage(orders, channels[: i + 2], num_modules))
            orders = self.stages[-1].orders
        self.head = Head(channels, num_keypoints)
        for module in self.modules():  # without norms the depth would starve torch's own starting weights
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu" if module.groups == 1 else "linear")
                nn.init.zeros_(module.bias)
        for fusion in (module for module in self.modules() if isinstance(module, Fusion)):
            for parameter in fusion.parameters():
                parameter.data *= 0.1  # a sum of many would grow from module to module
        nn.init.normal_(self.head.final.weight, std=1e-4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = [self.stem(x)]
        for stage in self.stages:
            y = stage(y)
        return {"heatmaps": self.head(y)}


def pose17_small() -> LiteHRNet:
    """The embedded default: 17 COCO keypoints from 256 x 192 crops, 1.5 million parameters; random weights."""
    network = LiteHRNet()
    network.spec = pose_spec("pose17-small", (256, 192))
    return network.eval()


def pose_spec(model: str, input_hw: tuple[int, int]) -> ArtifactSpec:
    """What a 17-keypoint network of this family takes and gives."""
    return ArtifactSpec(
        task="pose",
        model=model,
        input_hw=input_hw,
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
        crop=CropRule(padding=1.25, affine="udp"),
        codec={
            "name": "udp_heatmap",
            "input_hw": list(input_hw),
            "heatmap_hw": [side // 4 for side in input_hw],
            "sigma": 2.0,
            "blur_kernel": 11,
            "border": "reflect",
        },
        skeleton="coco17",
        licence="Apache-2.0",
    )


def match_lite_hrnet(state: Mapping[str, Any]) -> bool:
    """Whether these are the tensors of this family."""
    return {"stem.expand.weight", "stages.0.entries.0.0.weight", "head.final.weight"} <= set(state)


def lite_hrnet_from_state_dict(
    state: Mapping[str, Tensor],
    meta: Mapping[str, Any] | None = None,
    model: str | None = None,
    input_hw: tuple[int, int] | None = None,
) -> LiteHRNet:
    """The network these tensors belong to, strictly loaded, in eval mode, with its spec.

    Args:
        state: our own keys.
        meta: what stood beside the tensors; `hpe_lite_spec` (JSON) becomes the spec.
        model: zoo name for the spec.
        input_hw: crop (h, w) in px instead of the usual one; multiples of 32.

    Raises:
        CheckpointError: missing, left-over or misshapen tensors, all listed; an input size that does not fit.
    """
    final = state.get("head.final.weight")
    with torch.device("meta"):
        network = LiteHRNet(num_keypoints=17 if final is None else len(final))
    load_strictly(network, state, "Lite-HRNet of PP-TinyPose's sizes")
    spec = pose_spec("pose17-small", (256, 192))
    stored = (meta or {}).get("hpe_lite_spec")
    if stored is not None:
        spec = spec_from_dict(
            json.loads(stored) if isinstance(stored, str) else stored, "hpe_lite_spec of the checkpoint"
        )
    if input_hw is not None and tuple(input_hw) != spec.input_hw:
        if any(side % 32 for side in input_hw):
            raise CheckpointError(
                f"expected an input size in multiples of 32, found {tuple(input_hw)}; choose such a size"
            )
        codec = {**spec.codec, "input_hw": list(input_hw), "heatmap_hw": [side // 4 for side in input_hw]}
        spec = replace(spec, input_hw=tuple(input_hw), codec=codec)
    network.spec = replace(spec, model=model or spec.model)
    return network
