"""HigherHRNet: heatmaps at a quarter and a half of the input and a tag for every joint, for bottom-up pose.

Source: Cheng et al., "HigherHRNet: Scale-Aware Representation Learning for Bottom-Up Human Pose Estimation", 2020,
figure 2; the network without the second resolution is Newell et al., "Associative Embedding", 2017, on HRNet.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lite.artifact import ArtifactSpec, FrameRule
from lite.errors import CheckpointError
from lite.models.hrnet import LICENCE, UNITS, BasicBlock, HRNet
from lite.models.hrnet_names import first_size
from lite.models.strict import load_strictly
from lite.models.vit import MEAN, STD

SKELETONS = {17: "coco17", 14: "crowdpose14", 16: "mpii16", 133: "wholebody133"}
SIDES = {48: 640}  # px, trained at; other widths at 512
MULTIPLE = 64  # both sides of the input; the short side is asked for, the long side follows the picture


class Deconvolution(nn.Module):
    """Features and first outputs to features of twice the size, and heatmaps of those."""

    def __init__(self, in_channels: int, width: int, num_keypoints: int) -> None:
        super().__init__()
        self.deconv = nn.Sequential(
            nn.ConvTranspose2d(in_channels, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.resid_blocks = nn.Sequential(*(BasicBlock(width) for _ in range(UNITS)))
        self.final_layer = nn.Conv2d(width, num_keypoints, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.final_layer(self.resid_blocks(self.deconv(x)))


class HigherHRNet(nn.Module):
    """Normalised pictures (B, 3, h, w), sides multiples of 32, to raw maps.

    `heatmaps_4` and `tags` are (B, K, h/4, w/4), `heatmaps_2` is (B, K, h/2, w/2). Plain associative embedding
    (`higher` False) has no `heatmaps_2`.
    """

    def __init__(self, width: int, num_keypoints: int, higher: bool = True) -> None:
        super().__init__()
        self.num_keypoints = num_keypoints
        self.backbone = HRNet(width, num_out=1)
        self.init_heatmaps_head = nn.Conv2d(width, 2 * num_keypoints, 1)
        deconvolutions = [Deconvolution(width + 2 * num_keypoints, width, num_keypoints)] if higher else []
        self.deconv_layers = nn.ModuleList(deconvolutions)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.backbone(x)[0]
        first = self.init_heatmaps_head(features)  # (B, 2K, h/4, w/4)
        out = {"heatmaps_4": first[:, : self.num_keypoints], "tags": first[:, self.num_keypoints :]}
        for deconvolution in self.deconv_layers:
            out["heatmaps_2"] = deconvolution(torch.cat((features, first), 1))
        return out


def higher_hrnet(
    width: int, skeleton: str, *, name: str, higher: bool = True, input_hw: tuple[int, int] = (512, 512)
) -> HigherHRNet:
    """A published network with random weights."""
    num_keypoints = next(count for count, known in SKELETONS.items() if known == skeleton)
    network = HigherHRNet(width, num_keypoints, higher)
    network.spec = bottom_up_spec(name, input_hw, skeleton)
    return network


def bottom_up_spec(model: str, input_hw: tuple[int, int], skeleton: str | None) -> ArtifactSpec:
    """What a bottom-up network takes and gives; `input_hw` is that of a square picture, others are longer."""
    return ArtifactSpec(
        task="pose-bottom-up",
        model=model,
        input_hw=tuple(input_hw),
        mean=MEAN,
        std=STD,
        frame=FrameRule(kind="short-side", multiple=MULTIPLE),
        codec={"name": "tag_grouping", "num_candidates": 30},
        skeleton=skeleton,
        licence="Apache-2.0" if model.startswith("ae-") else LICENCE,
    )


def higher_hrnet_from_tensors(
    state: Mapping[str, Tensor], width: int, model: str | None, input_hw: tuple[int, int] | None
) -> HigherHRNet:
    """The network of these tensors, named as pytorch-human-pose does, strictly loaded.

    Args:
        input_hw: px; the size such networks were published at when None.

    Raises:
        CheckpointError: tensors missing, left over or of another shape, or not one tag for every joint.
    """
    channels = first_size(state, "init_heatmaps_head.weight")
    higher = any(name.startswith("deconv_layers.") for name in state)
    second = first_size(state, "deconv_layers.0.final_layer.weight") if higher else None
    # A top-down network has as many channels as joints; 28 or 34 joints exist nowhere, so that their halves tell.
    fits = channels // 2 in SKELETONS if second is None else channels == 2 * second
    if channels % 2 or not fits or any(name.startswith("deconv_layers.1.") for name in state):
        found = f"{channels} channels" + ("" if second is None else f" and {second} at the finer resolution")
        raise CheckpointError(
            f"expected an HRNet with a heatmap and a tag for every joint, found {found}; "
            "networks with one tag for all joints, with more resolutions, or for single people are not read"
        )
    with torch.device("meta"):
        network = HigherHRNet(width, channels // 2, higher)
    skeleton = SKELETONS.get(channels // 2)
    side = SIDES.get(width, 512) if higher else 512
    input_hw = input_hw or (side, side)
    network.spec = bottom_up_spec(model or _name(width, skeleton, higher), input_hw, skeleton)
    kind = "HigherHRNet" if higher else "associative-embedding HRNet"
    return load_strictly(network, state, f"{kind} of width {width} with {channels // 2} keypoints")


def _name(width: int, skeleton: str | None, higher: bool) -> str:
    """Zoo name, or a custom one."""
    family, widths = ("higherhrnet", (32, 48)) if higher else ("ae-hrnet", (32,))
    return f"{family}-w{width}-coco17" if skeleton == "coco17" and width in widths else f"{family}-custom"
