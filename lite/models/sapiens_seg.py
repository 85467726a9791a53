"""Sapiens networks that name the class of every pixel: the trunk of sapiens.py with a segmentation head.

Four sets of classes were published. The tensors show how many classes there are, but neither what they are called nor
the padding of the patch layer. Both follow from what the file says of itself (its configuration, its class names), then
from the model that was asked for, then from the number of classes: 28 and 19 belong to one set each, 20 to LIP and to
CIHP, which have the same names and padding. Other numbers get plain names and the original's default padding 0.
Source: sapiens seg/configs/sapiens_seg, seg/mmseg/models/decode_heads/vit_head.py.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lite.artifact import ArtifactSpec, CropRule, FrameRule, OutputSpec
from lite.errors import CheckpointError, ConfigError
from lite.label_sets import LabelSet, generic_label_set, label_set_from, load_label_set
from lite.models.heads import SapiensLabelHead
from lite.models.sapiens import LICENCE, SIZES, SapiensTrunk, TrunkSizes, head_channels
from lite.models.vit import MEAN, STD, hints, input_grid

# Label set -> how zoo names end, padding of the patch layer.
SETS = {"goliath28": ("seg28", 0), "face19": ("face19", 0), "lip20": ("lip20", 2), "cihp20": ("cihp20", 2)}
_SET_OF_COUNT = {28: "goliath28", 19: "face19", 20: "lip20"}
_AMBIGUOUS = "20 classes are those of LIP or CIHP, which the file does not tell; taken as LIP, with the same names"
_SPEC_KEY = "hpe_lite_spec"  # of files this project saved, see lite/checkpoints.py


class SapiensSegmenter(nn.Module):
    """Normalised pictures (B, 3, h, w) to `logits` (B, C, h/2, w/2)."""

    def __init__(
        self,
        sizes: TrunkSizes,
        num_channels: int,
        deconv_channels: Sequence[int] = (768, 768, 768),
        conv_channels: Sequence[int] = (768, 768, 768),
    ) -> None:
        super().__init__()
        self.backbone = SapiensTrunk(sizes)
        self.decode_head = SapiensLabelHead(sizes.width, num_channels, deconv_channels, conv_channels)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.decode_head(self.backbone(x))}


def sapiens_segmenter(size: str, label_set: str, input_hw: tuple[int, int] = (1024, 768)) -> SapiensSegmenter:
    """A published network with random weights: `size` from `SIZES`, `label_set` from `SETS`."""
    ending, padding = SETS[label_set]
    sizes = replace(SIZES[size], grid_hw=input_grid(input_hw, padding), patch_padding=padding)
    labels = load_label_set(label_set)
    network = SapiensSegmenter(sizes, len(labels))
    network.spec = segment_spec(f"sapiens-{size}-{ending}", input_hw, labels, len(labels))
    network.hints = {**hints(sizes), **_padding_hint(padding)}
    return network


def segment_spec(
    model: str, input_hw: tuple[int, int], labels: LabelSet, num_channels: int, scale: int = 8
) -> ArtifactSpec:
    """What a Sapiens segmentation network takes and gives; its logits have `scale` cells a token (`PATCH` px).

    It was trained on whole pictures, stretched; a padded crop of one person is the other picture it is given.
    """
    height, width = (scale * side for side in input_grid(input_hw, patch_padding=0))
    return ArtifactSpec(
        task="segment",
        model=model,
        input_hw=tuple(input_hw),
        mean=MEAN,
        std=STD,
        crop=CropRule(padding=1.25, affine="udp"),
        frame=FrameRule(kind="stretch"),
        outputs=(OutputSpec(name="logits", shape=("N", num_channels, height, width), dtype="float32", unit="logit"),),
        codec={"name": "logits"},
        labels=labels.names,
        palette=labels.palette,
        label_swaps=labels.swaps,
        licence=LICENCE,
    )


def segmenter_from_tensors(
    state: Mapping[str, Tensor],
    meta: Mapping[str, Any],
    sizes: TrunkSizes,
    model: str | None,
    input_hw: tuple[int, int],
) -> SapiensSegmenter:
    """The network on the meta device for tensors named `decode_head.*`, with `.spec`, `.hints` and `.notes`.

    Args:
        state: all tensors under their published names.
        meta: what the file says about itself.
        sizes: the trunk's, as read from the tensors; their patch padding is decided here.
        model: zoo name asked for. input_hw: px.

    Raises:
        CheckpointError: another head under the same names.
    """
    weight = state.get("decode_head.conv_seg.weight")
    if weight is None or weight.ndim != 4:
        raise CheckpointError(
            "expected a Sapiens segmentation head, found no tensor decode_head.conv_seg.weight of a convolution; "
            "give a pose or segmentation checkpoint"
        )
    deconv, conv = head_channels(state, "decode_head.")
    labels, notes = _label_set(meta, model, weight.shape[0], len(deconv))
    padding = _patch_padding(meta, labels.name)
    with torch.device("meta"):
        network = SapiensSegmenter(replace(sizes, patch_padding=padding), weight.shape[0], deconv, conv)
    size = next((name for name, row in SIZES.items() if (row.width, row.depth) == (sizes.width, sizes.depth)), None)
    published = labels.name in SETS and size and (labels.name != "face19" or size == "1b")
    name = model or (f"sapiens-{size}-{SETS[labels.name][0]}" if published else "sapiens-custom")
    network.spec = segment_spec(name, input_hw, labels, weight.shape[0], 2 ** len(deconv))
    network.hints = _padding_hint(padding)
    network.notes = notes
    return network


def _label_set(
    meta: Mapping[str, Any], model: str | None, channels: int, num_deconv: int
) -> tuple[LabelSet, tuple[str, ...]]:
    """The classes of a file, and what its reader should know about the choice."""
    told = _told_classes(meta, channels)
    if told is None and (num_deconv > 3 or channels == 3):
        # Both heads carry the names of a segmentation head; nothing but these numbers tells them from one.
        kind = "depth" if num_deconv > 3 else "surface normal"
        raise CheckpointError(
            f"expected a segmentation network, found what looks like a Sapiens {kind} head (decode_head.* with "
            f"{num_deconv} deconvolutions and {channels} channels), which this version does not run; give a pose or "
            "segmentation checkpoint, or one whose meta names its classes"
        )
    if told is not None and told.name != "own":
        return told, ()
    asked = next((name for name, (ending, _) in SETS.items() if (model or "").endswith(f"-{ending}")), None)
    by_count = _SET_OF_COUNT.get(channels)
    if asked is not None and len(load_label_set(asked)) == channels:
        by_count, notes = asked, ()
    else:
        notes = (_AMBIGUOUS,) if channels == 20 else ()
    known = load_label_set(by_count) if by_count else None
    if told is not None and (known is None or told.names != known.names):
        return told, ()
    if known is not None:
        return known, notes
    return generic_label_set(channels), (f"the {channels} classes have no names in the file; give a label set",)


def _told_classes(meta: Mapping[str, Any], channels: int) -> LabelSet | None:
    """The classes a file names: in the spec we saved, by the data set of its configuration, or one by one ("own")."""
    count = max(channels, 2)  # one channel tells its class from the background
    spec, data = meta.get(_SPEC_KEY), meta.get("dataset_meta")
    if isinstance(spec, dict) and spec.get("labels"):
        own = {"names": spec["labels"], "palette": spec.get("palette"), "swaps": spec.get("label_swaps")}
        published = (load_label_set(name) for name in SETS if str(spec.get("model")).endswith(f"-{SETS[name][0]}"))
        same = next((one for one in published if list(one.names) == list(own["names"])), None)
        return same or _own(own, count)
    text = f"{_text(meta, 'experiment_name')}\n{_text(meta, 'cfg')}"
    found = [name for name, words in _WORDS_OF.items() if len(load_label_set(name)) == channels and words.search(text)]
    if len(found) == 1:
        return load_label_set(found[0])
    if isinstance(data, dict) and data.get("classes"):
        return _own({"names": data["classes"], "palette": data.get("palette")}, count)
    return None


# How the configurations of each set call it. "lip" must not be a part of flip, clip or Upper_Lip.
_WORDS_OF = {
    "cihp20": re.compile("cihp", re.IGNORECASE),
    "lip20": re.compile(r"(?<![a-zA-Z])(lip(?![a-z])|LIP(?=Dataset|Seg|[^a-zA-Z]|$))"),
}


def _own(values: dict[str, Any], count: int) -> LabelSet | None:
    """A set of classes from foreign values; None when they are not `count` proper names."""
    try:
        plain = {key: _plain(value) for key, value in values.items() if value is not None}
        made = label_set_from("own", plain)
    except (ConfigError, TypeError):
        return None
    return made if len(made) == count else None


def _plain(value: Any, depth: int = 2) -> Any:
    """Arrays of a pickled meta as lists. No deeper than colours are: lists can hold one another without end."""
    value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return [_plain(one, depth - 1) for one in value] if depth and isinstance(value, list | tuple) else value


def _text(meta: Mapping[str, Any], key: str) -> str:
    value = meta.get(key)
    return value if isinstance(value, str) else ""


def _patch_padding(meta: Mapping[str, Any], label_set: str) -> int:
    """0 or 2: as a file of ours or the configuration in a published one says, else as the published set had it."""
    if "hpe_lite_hints" in meta:
        return meta["hpe_lite_hints"].get("patch_padding", 0)
    stated = re.search(r"patch_cfg\s*=\s*dict\(\s*padding\s*=\s*([02])\b", _text(meta, "cfg"))
    return int(stated[1]) if stated else SETS.get(label_set, ("", 0))[1]


def _padding_hint(padding: int) -> dict[str, int]:
    return {"patch_padding": padding} if padding else {}
