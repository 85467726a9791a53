"""Codecs: keypoints <-> network outputs, in tensor operations, so that decoding is part of the exported graph.

A codec is an `nn.Module` without parameters. `decode(*raw)` is also its `forward`.
"""

from importlib import import_module
from typing import Any

from lite.errors import ConfigError

# Name in an artifact's JSON -> module and class. Dotted names, so that looking at the table imports no torch.
CODECS = {
    "udp_heatmap": "lite.codecs.udp_heatmap.UDPHeatmap",
    "msra_heatmap": "lite.codecs.msra_heatmap.MSRAHeatmap",
    "point_boxes": "lite.codecs.point_boxes.PointBoxes",
    "tag_grouping": "lite.codecs.tag_grouping.TagGrouping",
    "logits": "lite.codecs.label_logits.LabelLogits",
    "softmax": "lite.codecs.class_probabilities.ClassProbabilities",
}


def codec_class(name: str) -> type:
    """The class of a codec by its name in `CODECS`.

    Raises:
        ConfigError: there is no such codec.
    """
    if name not in CODECS:
        raise ConfigError(f"codec: expected a name out of {', '.join(CODECS)}, found {name!r}")
    module, _, class_name = CODECS[name].rpartition(".")
    return getattr(import_module(module), class_name)


def build_codec(codec: dict[str, Any]) -> Any:
    """Make a codec from its description in an `ArtifactSpec`: "name" and the constructor's arguments.

    Raises:
        ConfigError: the name is unknown or the arguments do not fit.
    """
    arguments = {key: value for key, value in codec.items() if key != "name"}
    made = codec_class(codec.get("name", ""))
    try:
        return made(**arguments)
    except TypeError as problem:
        raise ConfigError(f"codec {codec['name']}: its arguments do not fit ({problem})") from problem
