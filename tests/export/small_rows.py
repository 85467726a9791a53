"""A row of the zoo with the same parts and rules, but small: what makes its graph stays, widths and depths shrink.

    small = shrink(ZOO["vitpose-h-aic14"])
    small.key  # equal for rows whose graphs differ in size alone
    network = small.build(monkeypatch)  # with `.spec`; random weights

A network of a new class has no rule here and is an error, which is the point: nothing enters the zoo unexported.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from lite.artifact import ArtifactSpec
from lite.models import higher_hrnet, hrnet, sapiens, vitpose
from lite.models.heads import SimpleHead
from lite.models.higher_hrnet import HigherHRNet
from lite.models.hrnet import ClassificationHRNet
from lite.models.lite_hrnet import LiteHRNet
from lite.models.rows import ZooRow
from lite.models.rtmdet import RTMDet
from lite.models.sapiens import SapiensPose
from lite.models.sapiens_seg import SapiensSegmenter
from lite.models.vitpose import ViTPose

# Task -> input size, px. The aspect of every pose and segmentation row is 4:3.
INPUT_HW = {
    "pose": (128, 96),
    "segment": (128, 96),
    "detect": (160, 160),
    "classify": (64, 64),
    "pose-bottom-up": (128, 128),
}
TRUNK = {"width": 64, "depth": 2, "num_heads": 4, "hidden": 128, "grid_hw": (8, 6)}
HEAD = 32  # channels of the layers of a head
SIGMA = 2.0  # of heatmaps, cells; only training reads it


@dataclass(frozen=True)
class Small:
    """A small network to be built.

    Attributes:
        key: everything its graph depends on, but for names and licences.
        make: gives the network; for HRNet under `small_hrnet`.
        spec: the row's own, with the sizes of the small network.
    """

    key: str
    make: Callable[[], nn.Module]
    spec: ArtifactSpec

    def build(self, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
        """With random weights and its spec."""
        small_hrnet(monkeypatch)
        network = self.make()
        network.spec = self.spec
        return network


def shrink(row: ZooRow) -> Small:
    """The row's network, small.

    Raises:
        LookupError: a network of a class, or of a width and height, that no rule is for.
    """
    with torch.device("meta"):
        network = row.build()
    if type(network) not in RULES:
        raise LookupError(f"{row.name}: {type(network).__name__} has no rule in tests/export/small_rows.py")
    settings = RULES[type(network)][0](network)
    spec = shrunk_spec(network.spec)
    same = replace(spec, model="", licence=None).to_dict()
    key = json.dumps([type(network).__name__, settings, same], sort_keys=True, default=str)
    return Small(key, lambda: RULES[type(network)][1](network, settings), spec)


def shrunk_spec(spec: ArtifactSpec) -> ArtifactSpec:
    """The same rules for a smaller input; outputs are described anew when a graph is made."""
    input_hw, codec = INPUT_HW[spec.task], dict(spec.codec)
    if input_hw[0] * spec.input_hw[1] != input_hw[1] * spec.input_hw[0]:
        raise LookupError(f"{spec.model}: no small size of the aspect {spec.input_hw} in tests/export/small_rows.py")
    if "heatmap_hw" in codec:
        stride = spec.input_hw[0] // codec["heatmap_hw"][0]
        codec |= {"input_hw": list(input_hw), "heatmap_hw": [side // stride for side in input_hw], "sigma": SIGMA}
    return replace(spec, input_hw=input_hw, codec=codec, outputs=())


def small_hrnet(monkeypatch: pytest.MonkeyPatch) -> None:
    """HRNets built from here on have few modules, of one unit a branch; all paths between branches are there."""
    monkeypatch.setattr(hrnet, "MODULES", (1, 1, 1, 1))
    monkeypatch.setattr(hrnet, "UNITS", 1)
    monkeypatch.setattr(higher_hrnet, "UNITS", 1)
    monkeypatch.setattr(hrnet, "HEAD", (16, 32, 64, 64))
    monkeypatch.setattr(hrnet, "FEATURES", 64)


def _sapiens_sizes(padding: int) -> sapiens.TrunkSizes:
    return sapiens.TrunkSizes(**TRUNK, patch_padding=padding)


def _of_sapiens(head: nn.Module, last: nn.Conv2d, network: nn.Module) -> dict:
    deconv, conv = (
        [HEAD for part in layers if isinstance(part, nn.Conv2d | nn.ConvTranspose2d)]
        for layers in (head.deconv_layers, head.conv_layers)
    )
    padding = network.backbone.patch_embed.padding
    return {"channels": last.out_channels, "deconv": deconv, "conv": conv, "padding": padding}


def _of_vitpose(network: ViTPose) -> dict:
    head = network.keypoint_head
    return {
        "channels": head.final_layer.out_channels,
        "deconv": None if isinstance(head, SimpleHead) else [HEAD, HEAD],
        "eps": network.backbone.last_norm.eps,
    }


def _vitpose(network: ViTPose, s: dict) -> ViTPose:
    sizes = vitpose.TrunkSizes(**TRUNK, layer_norm_eps=s["eps"])
    return ViTPose(sizes, s["channels"], s["deconv"])


def _of_rtmdet(network: RTMDet) -> dict:
    small = {"widths": (8, 8, 16, 16, 32, 32), "depths": (1, 1, 1, 1)}
    sizes = replace(network.sizes, **small, neck_width=16, neck_blocks=1, head_width=16)
    return {"sizes": sizes}


# Class of network -> what its graph depends on, and the small network of that.
RULES: dict[type, tuple[Callable[[nn.Module], dict], Callable[[nn.Module, dict], nn.Module]]] = {
    SapiensPose: (
        lambda network: _of_sapiens(network.head, network.head.final_layer, network),
        lambda _, s: SapiensPose(_sapiens_sizes(s["padding"]), s["channels"], s["deconv"], s["conv"]),
    ),
    SapiensSegmenter: (
        lambda network: _of_sapiens(network.decode_head, network.decode_head.conv_seg, network),
        lambda _, s: SapiensSegmenter(_sapiens_sizes(s["padding"]), s["channels"], s["deconv"], s["conv"]),
    ),
    ViTPose: (_of_vitpose, _vitpose),
    RTMDet: (_of_rtmdet, lambda _, s: RTMDet(s["sizes"])),
    LiteHRNet: (
        lambda network: {"channels": network.head.final.out_channels},
        lambda _, s: LiteHRNet(s["channels"], (8, 16, 32, 64), (1, 1, 1)),
    ),
    HigherHRNet: (
        lambda network: {"channels": network.num_keypoints, "higher": len(network.deconv_layers) > 0},
        lambda _, s: HigherHRNet(24, s["channels"], s["higher"]),
    ),
    ClassificationHRNet: (
        lambda network: {"channels": network.classification_head.classifier.out_features},
        lambda _, s: ClassificationHRNet(8, s["channels"]),
    ),
}
