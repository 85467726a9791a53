"""Frames -> inputs of a classifier -> Classes: the two stages around a forward that takes whole pictures."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import interpolate

from lite.artifact import ArtifactSpec
from lite.errors import ConfigError
from lite.structures import Classes, Frame

LARGEST_ASPECT = 4  # of what is resized; a panorama of 1000 to 1 would otherwise be resized to a quarter million px


def fit_frames(frames: Sequence[Frame], spec: ArtifactSpec) -> tuple[np.ndarray, np.ndarray]:
    """Resize frames to what the network takes, bilinear with antialiasing, and cut out the middle.

    Args:
        frames: a frame batch, sizes mixed or none at all.
        spec: `frame` of kind "center-crop" (the short side to `short_side`, then the middle of `input_hw`, black where
            the resized frame is smaller) or "stretch" (to `input_hw`, aspect lost).

    Returns:
        pixels (N, h, w, 3) uint8 RGB; frame_of (N,) int64, position in the frame batch.

    Raises:
        ConfigError: the spec has another rule.

    Source: torchvision `Resize(antialias)` and `CenterCrop`, up to one level of 255.
    """
    rule = spec.frame
    if rule is None or rule.kind not in ("center-crop", "stretch"):
        found = rule.kind if rule else "none"
        raise ConfigError(
            f"{spec.model}: expected the frame rule center-crop or stretch, found {found}; use a classification network"
        )
    pixels = np.zeros((len(frames), *spec.input_hw, 3), np.uint8)
    for frame, out in zip(frames, pixels):
        if rule.kind == "stretch":
            out[:] = resized(frame.pixels, spec.input_hw)
            continue
        longest = max(LARGEST_ASPECT, 1 + max(spec.input_hw) // rule.short_side)
        part = _middle(frame.pixels, longest * min(frame.size_hw))
        _put_middle(resized(part, short_side_hw(part.shape[:2], rule.short_side)), out)
    return pixels, np.arange(len(frames), dtype=np.int64)


def assemble_classes(raw: dict[str, np.ndarray], frame_of: np.ndarray, top: int = 5) -> Classes:
    """The `top` likeliest classes of N frames, or all if there are fewer; of equal ones the lower label first.

    A frame with a probability that is not finite has scores of NaN, which become that record's error.

    Args:
        raw: `probabilities` (N, C).
        frame_of: (N,) int64, the frames they belong to.
        top: at least 1.
    """
    scores = np.asarray(raw["probabilities"], np.float32)
    scores = np.where(np.isfinite(scores).all(axis=1, keepdims=True), scores, np.float32(np.nan))
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top].astype(np.int64)
    return Classes(labels=order, scores=np.take_along_axis(scores, order, axis=1), frame_of=frame_of)


def short_side_hw(size_hw: tuple[int, int], short_side: int) -> tuple[int, int]:
    """(h, w) in px of a picture whose short side becomes `short_side`; the long side is rounded down."""
    height, width = size_hw
    if height <= width:
        return short_side, int(short_side * width / height)
    return int(short_side * height / width), short_side


def resized(pixels: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 -> (h, w, 3) uint8; made smaller, every pixel counts, as the networks were trained."""
    if pixels.shape[:2] == tuple(size_hw):
        return pixels
    planes = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
    return interpolate(planes, size_hw, mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()


def _middle(pixels: np.ndarray, longest: int) -> np.ndarray:
    """The picture without the ends of its long side beyond `longest` px, which no crop would show."""
    height, width = pixels.shape[:2]
    top, left = max(height - longest, 0) // 2, max(width - longest, 0) // 2
    return pixels[top : top + longest, left : left + longest]


def _put_middle(picture: np.ndarray, out: np.ndarray) -> None:
    """Lay the middle of one picture on the middle of another."""
    source, target = [], []
    for have, want in zip(picture.shape[:2], out.shape[:2]):
        start = round((have - want) / 2) if have >= want else 0
        place = (want - have) // 2 if have < want else 0
        length = min(have, want)
        source.append(slice(start, start + length))
        target.append(slice(place, place + length))
    out[tuple(target)] = picture[tuple(source)]
