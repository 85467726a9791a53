"""Frames -> inputs of a bottom-up network -> Poses: the two stages around a forward that takes whole pictures.

The network's input follows the picture's shape, so that a frame batch becomes one array a shape instead of one array.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lite.artifact import ArtifactSpec
from lite.crop import warp
from lite.errors import ConfigError
from lite.geometry import invert_affine, transform_points
from lite.group import Group, Grouping, group_by_tag
from lite.network import LARGEST_ASPECT
from lite.refine import refine
from lite.structures import Frame, Poses


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedFrames:
    """Frames whose network inputs have one size, with the way back.

    Attributes:
        pixels: (N, h, w, 3) uint8 RGB.
        to_frame: (N, 2, 3) float32, px of the input -> px of the frame.
        frame_of: (N,) int64, position in the frame batch, ascending.
    """

    pixels: np.ndarray
    to_frame: np.ndarray
    frame_of: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)


def fit_frames(frames: Sequence[Frame], spec: ArtifactSpec) -> list[FittedFrames]:
    """Resize frames to what the network takes, bilinear, black around them; frames of one input size together.

    Args:
        frames: a frame batch, sizes mixed or none at all.
        spec: `frame` of kind "short-side"; the shorter side of `input_hw` is that of every input.

    Raises:
        ConfigError: the spec has another rule.
    """
    if spec.frame is None or spec.frame.kind != "short-side":
        found = spec.frame.kind if spec.frame else "none"
        raise ConfigError(f"{spec.model}: expected the frame rule short-side, found {found}; use a bottom-up network")
    together: dict[tuple[int, int], list[int]] = {}
    fits = [fit_short_side(frame.size_hw, min(spec.input_hw), spec.frame.multiple) for frame in frames]
    for n, (input_hw, _) in enumerate(fits):
        together.setdefault(input_hw, []).append(n)
    return [_fitted([frames[n] for n in mine], [fits[n][1] for n in mine], mine, hw) for hw, mine in together.items()]


def _fitted(
    frames: list[Frame], matrices: list[np.ndarray], frame_of: list[int], input_hw: tuple[int, int]
) -> FittedFrames:
    pixels = np.empty((len(frames), *input_hw, 3), np.uint8)
    for frame, matrix, out in zip(frames, matrices, pixels):
        warp(frame.pixels, matrix, out)
    return FittedFrames(
        pixels=pixels, to_frame=invert_affine(np.stack(matrices)), frame_of=np.array(frame_of, np.int64)
    )


def fit_short_side(size_hw: tuple[int, int], short_side: int, multiple: int) -> tuple[tuple[int, int], np.ndarray]:
    """The network's input for a frame, and the affine that puts the frame into it.

    The frame's short side becomes `short_side`, rounded up to a `multiple`; the long side grows by the same factor and
    is filled up with black, half on each side, to a multiple. A frame more than `LARGEST_ASPECT` times longer than wide
    becomes that many short sides long, and its short side is filled up instead: a panorama of 100 to 1 would otherwise
    ask for an input of 51200 px, and its maps for gigabytes.

    Args:
        size_hw: frame, px. short_side, multiple: px.

    Returns:
        (h, w) of the input, px; (2, 3) float64, px of the frame -> px of the input.

    Source: Cheng et al., "HigherHRNet", the published test-time resizing.
    """
    height, width = size_hw
    side = _up(short_side, multiple)
    short, long = min(size_hw), max(size_hw)
    longest = LARGEST_ASPECT * side
    factor = min(side / short, longest / long)
    long_px = min(_up(factor * long, multiple), longest)
    input_hw = (long_px, side) if width < height else (side, long_px)
    center = np.array([int(width / 2 + 0.5), int(height / 2 + 0.5)])
    shift = np.array([input_hw[1], input_hw[0]]) / 2 - factor * center
    return input_hw, np.array([[factor, 0, shift[0]], [0, factor, shift[1]]])


def _up(length: float, multiple: int) -> int:
    """A length rounded up to a multiple; what exceeds one by less than a pixel is not rounded up, as published."""
    return max(math.floor((length + multiple - 1) / multiple), 1) * multiple


def assemble_people(raw: dict[str, np.ndarray], fitted: FittedFrames, options: Grouping) -> Poses:
    """Group the candidates of N frames and move the people to their frames.

    Args:
        raw: what the codec `tag_grouping` gives: `keypoints` (N, K, M, 2) px of the input, `scores` (N, K, M), `tags`
            (N, K, M, E), and with `options.refine` also `heatmaps` (N, K, h', w') and `tag_maps` (N, K, E, h'', w'').
        fitted: where they were seen.
        options: how candidates become people.

    Returns:
        People of each frame in the order they were found. `boxes` is the extent of the keypoints with a score above 0,
        `scores` the mean score over all K keypoints before any were filled in. Keypoints that were not found have score
        0 and lie where the input's corner does, at the frame's edge or outside. A frame whose outputs are not finite
        has one person of NaN, which becomes that record's error.

    Raises:
        ConfigError: `options.refine`, but the maps are not there.
    """
    return place_people(group_frames(raw, fitted, options), fitted, raw["scores"].shape[1])


def group_frames(raw: dict[str, np.ndarray], fitted: FittedFrames, options: Grouping) -> list[Group]:
    """The people of N frames in px of the input, with their tags; arguments and errors as `assemble_people`."""
    if options.refine and not {"heatmaps", "tag_maps"} <= raw.keys():
        raise ConfigError(
            "refine: expected outputs heatmaps and tag_maps, found none; export with them or switch it off"
        )
    return [_group(raw, n, fitted.pixels.shape[1:3], options) for n in range(len(fitted))]


def place_people(groups: Sequence[Group], fitted: FittedFrames, num_keypoints: int) -> Poses:
    """Move what `group_frames` gave to the frames; see `assemble_people`."""
    parts = [_poses(group, fitted.to_frame[n], int(fitted.frame_of[n])) for n, group in enumerate(groups)]
    return in_frame_order(parts, num_keypoints)


def _group(raw: dict[str, np.ndarray], n: int, input_hw: tuple[int, int], options: Grouping) -> Group:
    names = ("keypoints", "scores", "tags", *(("heatmaps", "tag_maps") if options.refine else ()))
    keypoints, scores, tags, *maps = (np.asarray(raw[name][n], np.float32) for name in names)
    if not all(np.isfinite(values).all() for values in (keypoints, scores, tags, *maps)):
        return _not_finite(keypoints.shape[0], tags.shape[2])
    group = group_by_tag(keypoints, scores, tags, options)
    if options.refine and len(group):
        group = refine(group, *maps, input_hw)
    return group


def _not_finite(num_keypoints: int, num_tags: int) -> Group:
    nothing = np.full((1, num_keypoints, 2 + num_tags), np.nan, np.float32)
    return Group(
        keypoints=nothing[..., :2], scores=nothing[..., 0], tags=nothing[..., 2:], person_scores=nothing[:, 0, 0]
    )


def _poses(group: Group, to_frame: np.ndarray, frame: int) -> Poses:
    keypoints = transform_points(group.keypoints, to_frame)
    return Poses(
        keypoints=keypoints,
        keypoint_scores=group.scores,
        boxes=_extent(keypoints, group.scores),
        scores=group.person_scores,
        frame_of=np.full(len(group), frame, np.int64),
    )


def _extent(keypoints: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Boxes (P, 4) around the keypoints (P, K, 2) that score above 0; every person has one at least."""
    outside = ~(scores > 0)[..., None]
    low = np.where(outside, np.inf, keypoints).min(axis=1)
    high = np.where(outside, -np.inf, keypoints).max(axis=1)
    return np.concatenate([low, high], axis=1).astype(np.float32)


def in_frame_order(parts: Sequence[Poses], num_keypoints: int) -> Poses:
    """Poses of any parts of a frame batch as one, ordered by frame; none at all give no people."""
    empty = _poses(_not_finite(num_keypoints, 1).of(np.arange(0)), np.eye(2, 3), 0)
    names = ("keypoints", "keypoint_scores", "boxes", "scores", "frame_of")
    joined = {name: np.concatenate([getattr(part, name) for part in (empty, *parts)]) for name in names}
    order = np.argsort(joined["frame_of"], kind="stable")
    return Poses(**{name: values[order] for name, values in joined.items()})
