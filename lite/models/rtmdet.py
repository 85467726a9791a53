"""RTMDet, the person detector: CSPNeXt trunk (cspnext.py), PAFPN neck and the head with separate batch norms.

`forward(x)` takes a normalised canvas and returns, per stride 8, 16 and 32, class logits and distances to the four
sides of a box; `lite.codecs.point_boxes` turns them into boxes. Key names are those of mmdetection, so its files load
as they are.

Source: mmdetection 3.3.0, models/{necks/cspnext_pafpn,dense_heads/rtmdet_head}.py.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lite.artifact import ArtifactSpec, LetterboxRule, OutputSpec, spec_from_dict
from lite.errors import CheckpointError, ModelError
from lite.models.cspnext import EPS, ConvModule, CSPLayer, CSPNeXt, conv3x3
from lite.models.rtmdet_rows import COCO80, ZOO_ROWS
from lite.models.strict import load_strictly

__all__ = ["ZOO_ROWS", "RTMDet", "RTMDetSizes", "match_rtmdet", "rtmdet", "rtmdet_from_state_dict"]

STRIDES = (8, 16, 32)
MEAN_BGR = (103.53, 116.28, 123.675)
STD_BGR = (57.375, 57.12, 58.395)


@dataclass(frozen=True, kw_only=True)
class RTMDetSizes:
    """Every number that shapes an RTMDet.

    Attributes:
        widths: channels of the first stem half, the stem, and stages 1 to 4.
        depths: blocks in stages 1 to 4.
        neck_width: channels of the three neck outputs. neck_blocks: blocks in each of its CSP layers.
        head_width: channels inside the head.
        num_classes: class logits per location.
        depthwise: 3x3 convolutions are depthwise separable (nano).
        share_conv: the three levels share the head's convolutions, each with its own batch norm.
        exp_on_reg: distances are exponential in the raw output; not visible in the tensors.
        bn_eps: batch norm epsilon of trunk, neck, head.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    neck_width: int
    neck_blocks: int
    head_width: int
    num_classes: int
    depthwise: bool = False
    share_conv: bool = True
    exp_on_reg: bool = False
    bn_eps: tuple[float, float, float] = (EPS, EPS, EPS)


def scaled_sizes(widen: float, deepen: float, **rest: Any) -> RTMDetSizes:
    """Sizes from mmdetection's two factors; neck and head are as wide as stage 2 unless `rest` says otherwise."""
    stages = tuple(int(base * widen) for base in (64, 128, 256, 512, 1024))
    depths = tuple(max(round(base * deepen), 1) for base in (3, 6, 6, 3))
    rest.setdefault("neck_width", stages[2])
    rest.setdefault("head_width", stages[2])
    return RTMDetSizes(widths=(int(64 * widen // 2), *stages), depths=depths, **rest)


# Zoo size -> constructor; `num_classes` is given by the row.
SIZES: dict[str, dict[str, Any]] = {
    "nano": {"widen": 0.25, "deepen": 0.33, "neck_blocks": 1, "depthwise": True, "share_conv": False},
    "tiny": {"widen": 0.375, "deepen": 0.167, "neck_blocks": 1},
    "s": {"widen": 0.5, "deepen": 0.33, "neck_blocks": 1},
    "m": {"widen": 0.75, "deepen": 0.67, "neck_blocks": 2, "exp_on_reg": True},
    "l": {"widen": 1.0, "deepen": 1.0, "neck_blocks": 3, "exp_on_reg": True},
    "x": {"widen": 1.25, "deepen": 1.33, "neck_blocks": 4, "exp_on_reg": True},
}


class PAFPN(nn.Module):
    """Neck: top-down then bottom-up; the bottom-up pass joins the reduced maps, not the trunk's own."""

    def __init__(self, sizes: RTMDetSizes) -> None:
        super().__init__()
        c3, c4, c5 = sizes.widths[-3:]
        eps = sizes.bn_eps[1]

        def csp(inputs: int, outputs: int) -> CSPLayer:
            return CSPLayer(
                inputs, outputs, sizes.neck_blocks, add=False, attention=False, depthwise=sizes.depthwise, eps=eps
            )

        def conv(inputs: int, outputs: int, stride: int) -> nn.Module:
            return conv3x3(sizes.depthwise, inputs, outputs, stride, eps)

        self.reduce_layers = nn.ModuleList([ConvModule(c5, c4, 1, eps=eps), ConvModule(c4, c3, 1, eps=eps)])
        self.top_down_blocks = nn.ModuleList([csp(2 * c4, c4), csp(2 * c3, c3)])
        self.downsamples = nn.ModuleList([conv(c3, c3, 2), conv(c4, c4, 2)])
        self.bottom_up_blocks = nn.ModuleList([csp(2 * c3, c4), csp(2 * c4, c5)])
        self.out_convs = nn.ModuleList([conv(c, sizes.neck_width, 1) for c in (c3, c4, c5)])

    def forward(self, maps: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
        c3, c4, c5 = maps
        r5 = self.reduce_layers[0](c5)
        p4 = self.top_down_blocks[0](torch.cat((_twice(r5), c4), 1))
        r4 = self.reduce_layers[1](p4)
        p3 = self.top_down_blocks[1](torch.cat((_twice(r4), c3), 1))
        n4 = self.bottom_up_blocks[0](torch.cat((self.downsamples[0](p3), r4), 1))
        n5 = self.bottom_up_blocks[1](torch.cat((self.downsamples[1](n4), r5), 1))
        return [conv(x) for conv, x in zip(self.out_convs, (p3, n4, n5))]


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class SepBNHead(nn.Module):
    """Head: two convolutions each for classes and distances, batch norms per level, then 1x1 predictions."""

    def __init__(self, sizes: RTMDetSizes) -> None:
        super().__init__()
        if sizes.share_conv and sizes.depthwise:
            raise ModelError(
                "RTMDet with depthwise convolutions cannot share them between levels; set share_conv=False"
            )
        eps, width = sizes.bn_eps[2], sizes.head_width

        def tower() -> nn.ModuleList:
            levels = nn.ModuleList(
                nn.Sequential(
                    conv3x3(sizes.depthwise, sizes.neck_width, width, 1, eps),
                    conv3x3(sizes.depthwise, width, width, 1, eps),
                )
                for _ in STRIDES
            )
            if sizes.share_conv:
                for level in levels[1:]:
                    for i in range(2):
                        level[i].conv = levels[0][i].conv
            return levels

        self.cls_convs = tower()
        self.reg_convs = tower()
        self.rtm_cls = nn.ModuleList(nn.Conv2d(width, sizes.num_classes, 1) for _ in STRIDES)
        self.rtm_reg = nn.ModuleList(nn.Conv2d(width, 4, 1) for _ in STRIDES)
        self.exp_on_reg = sizes.exp_on_reg
        for predict in (*self.rtm_cls, *self.rtm_reg):
            nn.init.normal_(predict.weight, std=0.01)
            nn.init.zeros_(predict.bias)
        for predict in self.rtm_cls:
            nn.init.constant_(predict.bias, -4.595)  # every location starts with a score of 0.01

    def forward(self, maps: list[Tensor]) -> dict[str, list[Tensor]]:
        cls, reg = [], []
        for i, (x, stride) in enumerate(zip(maps, STRIDES)):
            cls.append(self.rtm_cls[i](self.cls_convs[i](x)))  # (B, classes, h/stride, w/stride)
            distance = self.rtm_reg[i](self.reg_convs[i](x))  # (B, 4, h/stride, w/stride)
            reg.append((distance.exp() if self.exp_on_reg else distance) * stride)
        return {"cls": cls, "reg": reg}


class RTMDet(nn.Module):
    """Canvas to raw predictions.

    `forward(x)`: x (B, 3, h, w) float32, normalised BGR, h and w multiples of 32. Returns {"cls": three (B, classes,
    h/s, w/s) logits, "reg": three (B, 4, h/s, w/s) distances left, top, right, bottom in canvas px}.
    """

    spec: ArtifactSpec

    def __init__(self, sizes: RTMDetSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.backbone = CSPNeXt(sizes.widths, sizes.depths, sizes.depthwise, sizes.bn_eps[0])
        self.neck = PAFPN(sizes)
        self.bbox_head = SepBNHead(sizes)

    def forward(self, x: Tensor) -> dict[str, list[Tensor]]:
        if x.shape[-2] % 32 or x.shape[-1] % 32:
            raise ModelError(f"RTMDet needs a canvas with sides that are multiples of 32, found {tuple(x.shape[-2:])}")
        return self.bbox_head(self.neck(self.backbone(x)))


def rtmdet(size: str, labels: str, name: str | None = None, canvas: int | None = None) -> RTMDet:
    """A network of a published size with random weights.

    Args:
        size: nano, tiny, s, m, l, x.
        labels: "person" or "coco80".
        name: zoo name for the spec; `rtmdet-<size>-<labels>` when not given.
        canvas: side of the square input, px; 320 for nano, else 640.
    """
    names = ("person",) if labels == "person" else COCO80
    network = RTMDet(scaled_sizes(num_classes=len(names), **SIZES[size]))
    side = canvas or (320 if size == "nano" else 640)
    network.spec = detector_spec(name or f"rtmdet-{size}-{labels}", (side, side), names)
    return network


def detector_spec(name: str, input_hw: tuple[int, int], labels: tuple[str, ...], **codec: Any) -> ArtifactSpec:
    """The spec of an RTMDet; `codec` replaces single post-processing numbers (see `PointBoxes`)."""
    person = len(labels) == 1
    person_label = labels.index("person") if "person" in labels else 0
    numbers = {
        "name": "point_boxes",
        "strides": list(STRIDES),
        "person_label": person_label,
        "max_candidates": 300,
        "score_thr": 0.05 if person else 0.001,
        "nms_pre": 1000 if person else 30000,
        "nms_thr": 0.6 if person else 0.65,
        "max_per_frame": 100 if person else 300,
        "min_box_px": 0.0,
        **codec,
    }
    _check_canvas(name, input_hw)
    n = numbers["max_candidates"]
    return ArtifactSpec(
        task="detect",
        model=name,
        input_hw=input_hw,
        mean=MEAN_BGR,
        std=STD_BGR,
        color_order="BGR",
        letterbox=LetterboxRule(fill=114),
        outputs=(
            OutputSpec(name="boxes", shape=("N", n, 4), dtype="float32", unit="canvas px, xyxy"),
            OutputSpec(name="scores", shape=("N", n), dtype="float32", unit="0..1, 0 = no box"),
            OutputSpec(name="labels", shape=("N", n), dtype="int64", unit="index into labels"),
        ),
        codec=numbers,
        labels=labels,
        person_label=person_label,
        licence="Apache-2.0",
    )


def _check_canvas(name: str, input_hw: tuple[int, int]) -> None:
    if any(side < 32 or side % 32 for side in input_hw):
        raise ModelError(f"{name}: the canvas must have sides that are multiples of 32, found {tuple(input_hw)}")


def match_rtmdet(state: Mapping[str, Any]) -> bool:
    """Whether these keys are an RTMDet's."""
    return {"backbone.stem.0.conv.weight", "bbox_head.rtm_cls.0.weight", "bbox_head.rtm_reg.0.weight"} <= set(state)


def sizes_from_tensors(state: Mapping[str, Tensor]) -> RTMDetSizes:
    """Read every size from the tensors; `exp_on_reg` is guessed from the width (m and wider are exponential).

    Raises:
        CheckpointError: a tensor that shows a size is missing.
    """

    def out(key: str) -> int:
        if key not in state:
            raise CheckpointError(f"expected an RTMDet checkpoint with {key}, which is missing; the file is incomplete")
        return int(state[key].shape[0])

    def depth(prefix: str) -> int:
        pattern = re.compile(re.escape(prefix) + r"\.blocks\.(\d+)\.")
        return len({match[1] for match in map(pattern.match, state) if match})

    depthwise = "backbone.stage1.0.depthwise_conv.conv.weight" in state
    down = "pointwise_conv.conv.weight" if depthwise else "conv.weight"
    widths = (
        out("backbone.stem.0.conv.weight"),
        out("backbone.stem.2.conv.weight"),
        *(out(f"backbone.stage{i}.0.{down}") for i in range(1, 5)),
    )
    shared = not depthwise and all(
        _equal(state, f"bbox_head.{tower}.0.{i}.conv.weight", f"bbox_head.{tower}.{level}.{i}.conv.weight")
        for tower in ("cls_convs", "reg_convs")
        for i in range(2)
        for level in (1, 2)
    )
    return RTMDetSizes(
        widths=widths,
        depths=tuple(depth(f"backbone.stage{i}.{2 if i == 4 else 1}") for i in range(1, 5)),
        neck_width=out(f"neck.out_convs.0.{down}"),
        neck_blocks=depth("neck.top_down_blocks.0"),
        head_width=out(f"bbox_head.cls_convs.0.0.{down}"),
        num_classes=out("bbox_head.rtm_cls.0.weight"),
        depthwise=depthwise,
        share_conv=shared,
        exp_on_reg=widths[1] >= 48,
    )


def _equal(state: Mapping[str, Tensor], first: str, second: str) -> bool:
    return first in state and second in state and torch.equal(state[first], state[second])


def rtmdet_from_state_dict(
    state: Mapping[str, Tensor],
    meta: Mapping[str, Any] | None = None,
    model: str | None = None,
    input_hw: tuple[int, int] | None = None,
    sizes: RTMDetSizes | None = None,
) -> RTMDet:
    """The network these tensors belong to, strictly loaded, in eval mode, with its spec.

    Args:
        state: mmdetection's keys.
        meta: what stood beside the tensors: `hpe_lite_spec` (our own files), `dataset_meta` or `CLASSES`, `cfg`.
        model: zoo name; decides what the tensors cannot show (name, `exp_on_reg`, canvas).
        input_hw: canvas (h, w) in px instead of the usual one.
        sizes: from a configuration; decides everything instead of the tensors.

    Raises:
        CheckpointError: missing, left-over or misshapen tensors, all listed; class names that do not fit.
        ModelError: `model` is not an RTMDet of the zoo.
    """
    meta = meta or {}
    shown = sizes_from_tensors(state)
    known = _zoo_sizes()
    if sizes is None and model is not None:
        if model not in known:
            raise ModelError(f"expected an RTMDet of the zoo ({', '.join(known)}), found {model!r}")
        sizes = known[model]
        if replace(shown, exp_on_reg=sizes.exp_on_reg, share_conv=sizes.share_conv) != sizes:
            fits = [name for name, row in known.items() if row == shown]
            raise CheckpointError(
                f"the tensors do not have the sizes of {model}; they fit {', '.join(fits) or 'no model of the zoo'}"
            )
    if sizes is None:
        sizes = replace(shown, exp_on_reg=_exp_from_config(meta.get("cfg"), shown.exp_on_reg))
    name = model or next((name for name, row in known.items() if row == sizes), "rtmdet-custom")
    with torch.device("meta"):
        network = RTMDet(sizes)
    load_strictly(network, state, f"{name} of width {sizes.widths[1]} with {sizes.num_classes} classes")
    network.spec = _spec(meta, name, sizes, input_hw)
    return network


def _zoo_sizes() -> dict[str, RTMDetSizes]:
    return {
        row.name: scaled_sizes(num_classes=80 if row.name.endswith("-coco80") else 1, **SIZES[row.size])
        for row in ZOO_ROWS
    }


def _exp_from_config(text: Any, default: bool) -> bool:
    """`exp_on_reg` from the configuration text that training checkpoints carry."""
    found = re.findall(r"exp_on_reg\s*=\s*(True|False)", text) if isinstance(text, str) else []
    return found[-1] == "True" if found else default


def _spec(meta: Mapping[str, Any], name: str, sizes: RTMDetSizes, input_hw: tuple[int, int] | None) -> ArtifactSpec:
    if "hpe_lite_spec" in meta:
        own = meta["hpe_lite_spec"]
        spec = spec_from_dict(json.loads(own) if isinstance(own, str) else own, "hpe_lite_spec")
        _check_canvas(name, input_hw or spec.input_hw)
        return replace(spec, input_hw=tuple(input_hw)) if input_hw else spec
    side = 320 if sizes.depthwise else 640
    return detector_spec(name, tuple(input_hw or (side, side)), class_names(meta, sizes.num_classes))


def class_names(meta: Mapping[str, Any], num_classes: int) -> tuple[str, ...]:
    """Class names of a checkpoint: `dataset_meta`, else `CLASSES` (mmdetection 2), else person or the 80 of COCO.

    Raises:
        CheckpointError: names and number of classes disagree.
    """
    stored = {str(key).lower(): value for key, value in dict(meta.get("dataset_meta") or {}).items()}
    names = stored.get("classes", meta.get("CLASSES"))
    if names is None:
        if num_classes == 1:
            return ("person",)
        return COCO80 if num_classes == 80 else tuple(f"class{i}" for i in range(num_classes))
    names = (names,) if isinstance(names, str) else tuple(str(name) for name in names)
    if len(names) != num_classes:
        raise CheckpointError(f"the head predicts {num_classes} classes, the file names {len(names)}; it is not usable")
    return names
