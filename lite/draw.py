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
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FAR_PX = 1 << 24  # beyond this OpenCV's fixed-point positions overflow


@dataclass(frozen=True, kw_only=True)
class Style:
    """How people are drawn.

    Attributes:
        parts: any of skeleton (points and links), points, boxes, classes; others are somebody else's.
        kpt_thr: points scoring less are left out, and links with an end that scores no more.
        radius: of points, px; None follows the size of picture and person.
        thickness: of links and boxes, px; None follows the size of picture and person.
    """

    parts: frozenset[str] = frozenset({"skeleton"})
    kpt_thr: float = 0.3
    radius: int | None = None
    thickness: int | None = None


def draw(pixels: np.ndarray, record: Record, skeleton: Skeleton | None, style: Style) -> np.ndarray:
    """A copy of (H, W, 3) uint8 RGB with the record's people on it, the best detection on top, and its classes.

    Without a skeleton people have no keypoints.
    """
    canvas = np.ascontiguousarray(pixels).copy()
    for person in reversed(record.people):
        radius, thickness = _sizes(canvas.shape[:2], person["bbox"][0], style)
        if "boxes" in style.parts:
            x1, y1, x2, y2 = person["bbox"][0]
            cv2.rectangle(canvas, _fixed((x1, y1)), _fixed((x2, y2)), _BOX_COLOR, thickness, cv2.LINE_AA, _SHIFT)
        if skeleton is not None and "skeleton" in style.parts:
            _draw_links(canvas, person, skeleton, style.kpt_thr, thickness)
        if skeleton is not None and style.parts & {"skeleton", "points"}:
            _draw_points(canvas, person, skeleton, style.kpt_thr, radius)
    if record.classes and "classes" in style.parts:
        _draw_classes(canvas, record.classes)
    return canvas


def _draw_classes(canvas: np.ndarray, classes: Sequence[dict[str, Any]]) -> None:
    """Lines "97.1 % tench" in the top left corner, white on black."""
    height, width = canvas.shape[:2]
    size = max(0.3, min(height, width) / 700)
    line_px, thickness = max(1, round(34 * size)), max(1, round(1.5 * size))
    for n, found in enumerate(classes):
        text = f"{100 * found['score']:.1f} % {found['name']}"
        width_px = cv2.getTextSize(text, _FONT, size, thickness)[0][0]
        top = n * line_px
        cv2.rectangle(canvas, (0, top), (width_px + line_px // 2, top + line_px - 1), (0, 0, 0), cv2.FILLED)
        place = (line_px // 4, top + round(0.75 * line_px))
        cv2.putText(canvas, text, place, _FONT, size, (255, 255, 255), thickness, cv2.LINE_AA)


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
