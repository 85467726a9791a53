"""Pictures of what a bottom-up network saw in one frame, made where its maps are: those are too large to keep."""

from collections.abc import Collection, Sequence

import numpy as np

from lite.draw_bottom_up import draw_maps, draw_tags
from lite.group import Grouping, group_by_tag
from lite.structures import Frame


def map_pictures(
    wanted: Collection[str],
    frame: Frame,
    raw: dict[str, np.ndarray],
    to_frame: np.ndarray,
    input_hw: tuple[int, int],
    names: Sequence[str],
    grouping: Grouping,
) -> dict[str, np.ndarray]:
    """Name -> (h, w, 3) uint8 RGB for those of `heatmaps` and `tags` that are wanted.

    Args:
        raw: one frame's outputs of the codec `tag_grouping`, without the batch axis.
        to_frame: (2, 3), px of the network's input -> px of the frame.
        input_hw: px of that input.
        names: of the K keypoints.
        grouping: how people were found.
    """
    pictures = {}
    if "heatmaps" in wanted:
        pictures["heatmaps"] = draw_maps(frame.pixels, raw["heatmaps"], names, to_frame, input_hw)
    if "tags" in wanted:
        group = group_by_tag(raw["keypoints"], raw["scores"], raw["tags"], grouping)
        pictures["tags"] = draw_tags(group.tags, group.scores, names)
    return pictures
