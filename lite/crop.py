"""Detections -> Crops: each box cut from its frame in one warp, straight to the network's input size."""

from collections.abc import Sequence

import cv2
import numpy as np

from lite.artifact import CropRule
from lite.geometry import box_to_center_scale, classic_affine, classic_to_frame, udp_affine, udp_to_frame
from lite.structures import Crops, Detections, Frame

_AFFINES = {"udp": (udp_affine, udp_to_frame), "classic": (classic_affine, classic_to_frame)}
# OpenCV's warp takes no source with a side above 32767 px.
_LONGEST_SIDE_PX = 32000


def crop(frames: Sequence[Frame], detections: Detections, input_hw: tuple[int, int], rule: CropRule) -> Crops:
    """Cut every box out of its frame, bilinear, black outside the frame.

    Args:
        frames: the frame batch that `detections.frame_of` points into.
        detections: N boxes.
        input_hw: size of a crop, px.
        rule: padding around the box, its shape and the affine rule.

    Returns:
        N crops; `to_frame` maps decoded crop px to frame px as the published decoder of the rule does.

    Source: mmpose `topdown_transforms.py` (one interpolation, `cv2.warpAffine`).
    """
    to_crop, to_frame = _AFFINES[rule.affine]
    center, scale = padded(detections.boxes, input_hw, rule)
    matrices = to_crop(center, scale, input_hw)  # (N, 2, 3) frame px -> crop px
    pixels = np.empty((len(detections), *input_hw, 3), np.uint8)
    for n, (frame, matrix) in enumerate(zip(detections.frame_of, matrices)):
        warp(frames[frame].pixels, matrix, pixels[n])
    return Crops(pixels=pixels, to_frame=to_frame(center, scale, input_hw), detections=detections)


def padded(boxes: np.ndarray, input_hw: tuple[int, int], rule: CropRule) -> tuple[np.ndarray, np.ndarray]:
    """Centre (N, 2) and size (N, 2) float32, px of the frame, of the crop around each of the boxes (N, 4) xyxy."""
    square = rule.square and rule.affine == "udp"
    return box_to_center_scale(boxes, rule.padding, (1, 1) if square else input_hw)


def warp(frame: np.ndarray, matrix: np.ndarray, out: np.ndarray) -> None:
    """Fill `out` (h, w, 3) from a frame (H, W, 3) of any size by the affine `matrix` (2, 3) frame px -> `out` px."""
    if max(frame.shape[:2]) > _LONGEST_SIDE_PX:
        frame, matrix = _cut_source(frame, matrix, out.shape[:2])
    h, w = out.shape[:2]
    cv2.warpAffine(frame, matrix, (w, h), dst=out, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def _cut_source(frame: np.ndarray, matrix: np.ndarray, crop_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The part of a very large frame that a crop needs, at most `_LONGEST_SIDE_PX` on a side, and the affine for it."""
    full = np.vstack([np.asarray(matrix, np.float64), [0, 0, 1]])
    h, w = crop_hw
    corners = np.linalg.inv(full) @ np.array([[0, w, 0, w], [0, 0, h, h], [1, 1, 1, 1]])
    low = np.floor(corners[:2].min(axis=1)).astype(int) - 2
    high = np.ceil(corners[:2].max(axis=1)).astype(int) + 3
    (x1, y1), (x2, y2) = np.maximum(low, 0), np.minimum(high, [frame.shape[1], frame.shape[0]])
    part = frame[y1:y2, x1:x2]
    step = -(-max(*part.shape[:2], 1) // _LONGEST_SIDE_PX)  # a box wider than that: every second, third, ... pixel
    if part.size == 0:
        return np.zeros((1, 1, 3), np.uint8), np.array([[1.0, 0.0, -2.0 * w], [0.0, 1.0, -2.0 * h]])
    back = np.array([[step, 0, x1], [0, step, y1], [0, 0, 1]], np.float64)  # px of the part -> px of the frame
    return np.ascontiguousarray(part[::step, ::step]), (full @ back)[:2]
