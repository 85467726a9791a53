"""Pixels and a record -> pixels with skeletons, points or boxes drawn on them; changes nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from lite.skeletons import Skeleton
from lite.structures import Record

_SHIFT = 4  # positions are handed to OpenCV in sixteenths of a pixel
_BOX_COLOR = (0, 200, 83)
_FAR_PX = 1 << 24  # beyond this OpenCV's fixed-point positions overflow


@dataclass(frozen=True, kw_only=True)
class Style:
    """How people are drawn.

    Attributes:
        parts: any of skeleton (points and links), points, boxes.
        kpt_thr: points scoring less are left out, and links with an end that scores no more.
        radius: of points, px; None follows the size of picture and person.
        thickness: of links and boxes, px; None follows the size of picture and person.
    """

    parts: frozenset[str] = frozenset({"skeleton"})
    kpt_thr: float = 0.3
    radius: int | None = None
    thickness: int | None = None


def draw(pixels: np.ndarray, record: Record, skeleton: Skeleton, style: Style) -> np.ndarray:
    """A copy of (H, W, 3) uint8 RGB with the record's people on it, the best detection on top."""
    canvas = np.ascontiguousarray(pixels).copy()
    for person in reversed(record.people):
        radius, thickness = _sizes(canvas.shape[:2], person["bbox"][0], style)
        if "boxes" in style.parts:
            x1, y1, x2, y2 = person["bbox"][0]
            cv2.rectangle(canvas, _fixed((x1, y1)), _fixed((x2, y2)), _BOX_COLOR, thickness, cv2.LINE_AA, _SHIFT)
        if "skeleton" in style.parts:
            _draw_links(canvas, person, skeleton, style.kpt_thr, thickness)
        if "skeleton" in style.parts or "points" in style.parts:
            _draw_points(canvas, person, skeleton, style.kpt_thr, radius)
    return canvas


def _sizes(size_hw: tuple[int, int], box: Sequence[float], style: Style) -> tuple[int, int]:
    """Radius and thickness in px: 1/160 of the picture's geometric mean side, less for people small in it."""
    side = (size_hw[0] * size_hw[1]) ** 0.5
    person = max(box[2] - box[0], box[3] - box[1])
    automatic = max(1.0, min(side / 160, person / 50))
    radius = style.radius or max(1, round(automatic))
    return radius, style.thickness or max(1, round(automatic * 0.7))


def _draw_links(canvas: np.ndarray, person: dict[str, Any], skeleton: Skeleton, thr: float, thickness: int) -> None:
    points, scores = person["keypoints"], person["keypoint_scores"]
    for (a, b), color in zip(skeleton.links, skeleton.link_colors):
        if scores[a] > thr and scores[b] > thr:
            cv2.line(canvas, _fixed(points[a]), _fixed(points[b]), color, thickness, cv2.LINE_AA, _SHIFT)


def _draw_points(canvas: np.ndarray, person: dict[str, Any], skeleton: Skeleton, thr: float, radius: int) -> None:
    for point, score, color in zip(person["keypoints"], person["keypoint_scores"], skeleton.keypoint_colors):
        if score >= thr:
            cv2.circle(canvas, _fixed(point), radius << _SHIFT, color, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _fixed(point: Sequence[float]) -> tuple[int, int]:
    x, y = (round(min(max(value, -_FAR_PX), _FAR_PX) * (1 << _SHIFT)) for value in point[:2])
    return x, y
