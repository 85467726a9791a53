"""Boxes, crop affines, letterbox, IoU, suppression and OKS in numpy; the pixel convention is defined here.

Pixel convention. x points right, y down. A point is `(x, y)` in pixels and pixel centres have integer coordinates, so a
picture of width W covers -0.5 .. W - 0.5 and mirrors by x -> W - 1 - x. Boxes are `xyxy` with the edges as COCO stores
them: width is `x2 - x1`, never `+ 1`. Sizes are `(height, width)` and named `*_hw`; `center` and `scale` are `(x, y)`
and `(width, height)` in frame pixels. Affine matrices are 2x3 and act as `m @ [x, y, 1]`.

Two crop rules exist. They differ by less than a pixel, yet every published network expects its own:

    udp       corner pixel centres fall on the box edges:  crop = (frame - center + scale / 2) / scale * (input - 1)
    classic   the box centre falls on input / 2:           crop = (frame - center + scale / 2) / scale * input

Keypoints come back by another matrix than the inverse of these, because published decoders give keypoints on a grid
of `input` px over the box for both rules; see `udp_to_frame` and `classic_to_frame`.

Everything is vectorised over leading axes and works when they are empty. Matrices are computed in float64 and given
as float32.
"""

import numpy as np

from lite.errors import ConfigError

# --- boxes, crops and the way back


def box_to_center_scale(boxes: np.ndarray, padding: float, input_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Centre and size of the crop around each box: `padding` times larger, then widened to the input's aspect.

    Args:
        boxes: (N, 4) xyxy, px of the frame.
        padding: enlargement of both sides, 1.25 for every published network here.
        input_hw: network input, px; only its aspect counts.

    Returns:
        center (N, 2) float32 px; scale (N, 2) float32, width and height in px.
    """
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    center = (boxes[:, :2] + boxes[:, 2:]) * np.float32(0.5)
    width, height = ((boxes[:, 2:] - boxes[:, :2]) * np.float32(padding)).T
    aspect = np.float32(input_hw[1] / input_hw[0])
    scale = np.stack([np.maximum(width, height * aspect), np.maximum(height, width / aspect)], axis=1)
    return center, scale


def udp_affine(
    center: np.ndarray, scale: np.ndarray, input_hw: tuple[int, int], rotation_deg: float | np.ndarray = 0.0
) -> np.ndarray:
    """Frame px -> crop px by the UDP rule; the frame turns clockwise on the screen for a positive angle.

    Args:
        center: (..., 2) px of the frame. scale: (..., 2) width and height in px of the frame.
        input_hw: crop size in px.
        rotation_deg: scalar or (...).

    Returns:
        (..., 2, 3) float32.

    Source: Huang et al., "The Devil is in the Details", section 3; mmpose `get_udp_warp_matrix`.
    """
    center, scale, cos, sin = _spread(center, scale, rotation_deg)
    factor = np.array([input_hw[1] - 1, input_hw[0] - 1]) / scale
    cx, cy = center[..., 0], center[..., 1]
    row_x = np.stack([cos, -sin, -cx * cos + cy * sin + scale[..., 0] / 2], axis=-1) * factor[..., :1]
    row_y = np.stack([sin, cos, -cx * sin - cy * cos + scale[..., 1] / 2], axis=-1) * factor[..., 1:]
    return np.stack([row_x, row_y], axis=-2).astype(np.float32)


def classic_affine(
    center: np.ndarray, scale: np.ndarray, input_hw: tuple[int, int], rotation_deg: float | np.ndarray = 0.0
) -> np.ndarray:
    """Frame px -> crop px by the classic rule; the frame turns the other way than with `udp_affine`.

    Only the width of `scale` is used: one factor serves both axes.

    Args:
        center: (..., 2) px of the frame. scale: (..., 2) width and height in px of the frame.
        input_hw: crop size in px.
        rotation_deg: scalar or (...).

    Returns:
        (..., 2, 3) float32.

    Source: Xiao et al., "Simple Baselines"; mmpose 0.x `get_affine_transform`.
    """
    center, scale, cos, sin = _spread(center, scale, rotation_deg)
    factor = input_hw[1] / scale[..., 0]
    linear = (
        np.stack([np.stack([cos, sin], axis=-1), np.stack([-sin, cos], axis=-1)], axis=-2) * factor[..., None, None]
    )
    middle = np.array([input_hw[1], input_hw[0]]) / 2
    shift = middle - (linear @ center[..., None])[..., 0]
    return np.concatenate([linear, shift[..., None]], axis=-1).astype(np.float32)


def udp_to_frame(center: np.ndarray, scale: np.ndarray, input_hw: tuple[int, int]) -> np.ndarray:
    """Decoded crop px -> frame px for crops cut by `udp_affine` without rotation.

    The map is `xy / input * scale + center - scale / 2`. This is not the inverse of `udp_affine`, which divides by
    `input - 1`: the published UDP decoder multiplies its heatmap position by `input / (heatmap - 1)`, so that both
    together give `heatmap_xy / (heatmap - 1) * scale + center - scale / 2`. To map pixels of the crop itself (a
    drawing, an annotation moved by `udp_affine`), use `invert_affine`.

    Args:
        center: (..., 2) px of the frame. scale: (..., 2) width and height in px of the frame.
        input_hw: crop size in px.

    Returns:
        (..., 2, 3) float32.
    """
    center, scale, _, _ = _spread(center, scale, 0.0)
    factor = scale / np.array([input_hw[1], input_hw[0]])
    zero = np.zeros_like(factor[..., 0])
    corner = center - scale / 2
    row_x = np.stack([factor[..., 0], zero, corner[..., 0]], axis=-1)
    row_y = np.stack([zero, factor[..., 1], corner[..., 1]], axis=-1)
    return np.stack([row_x, row_y], axis=-2).astype(np.float32)


def classic_to_frame(center: np.ndarray, scale: np.ndarray, input_hw: tuple[int, int]) -> np.ndarray:
    """Decoded crop px -> frame px for crops cut by `classic_affine` without rotation.

    The published classic decoder gives `heatmap_xy * input / heatmap` and maps back by
    `xy / input * scale + center - scale / 2`, the same matrix as `udp_to_frame`; for an aspect-fixed scale it is the
    inverse of `classic_affine`.
    """
    return udp_to_frame(center, scale, input_hw)


def _spread(center: np.ndarray, scale: np.ndarray, rotation_deg: float | np.ndarray) -> tuple[np.ndarray, ...]:
    center, scale = np.asarray(center, np.float64), np.asarray(scale, np.float64)
    angle = np.broadcast_to(np.deg2rad(np.asarray(rotation_deg, np.float64)), center.shape[:-1])
    return center, scale, np.cos(angle), np.sin(angle)


def invert_affine(m: np.ndarray) -> np.ndarray:
    """The affine that undoes each of (..., 2, 3); float32."""
    m = np.asarray(m, np.float64)
    a, b, c, d = m[..., 0, 0], m[..., 0, 1], m[..., 1, 0], m[..., 1, 1]
    adjugate = np.stack([np.stack([d, -b], axis=-1), np.stack([-c, a], axis=-1)], axis=-2)
    linear = adjugate / (a * d - b * c)[..., None, None]
    shift = -(linear @ m[..., 2:])
    return np.concatenate([linear, shift], axis=-1).astype(np.float32)


def transform_points(points: np.ndarray, m: np.ndarray) -> np.ndarray:
    """Move points (..., K, 2) by affines (..., 2, 3) of the same leading axes; float32."""
    m = np.asarray(m, np.float64)
    moved = np.asarray(points, np.float64) @ np.swapaxes(m[..., :2], -1, -2) + m[..., None, :, 2]
    return moved.astype(np.float32)


def letterbox_geometry(
    size_hw: tuple[int, int], canvas_hw: tuple[int, int]
) -> tuple[tuple[int, int], tuple[float, float]]:
    """Size a frame takes on a canvas with its aspect kept; it is pasted at the top left.

    Args:
        size_hw: frame, px.
        canvas_hw: canvas, px.

    Returns:
        new_hw: size after resizing, px.
        scale_xy: (new_w / w, new_h / h), slightly different after rounding; canvas px divided by them are frame px.

    Raises:
        ConfigError: the resized frame does not fit. The rule looks at long and short sides only, so a portrait frame
            overflows a landscape canvas.

    Source: mmcv `Resize(keep_ratio=True)`, `rescale_size`.
    """
    (h, w), (canvas_h, canvas_w) = size_hw, canvas_hw
    factor = min(max(canvas_hw) / max(h, w), min(canvas_hw) / min(h, w))
    new_h, new_w = max(int(h * factor + 0.5), 1), max(int(w * factor + 0.5), 1)
    if new_h > canvas_h or new_w > canvas_w:
        raise ConfigError(
            f"input_hw: expected a canvas that holds a {w}x{h} picture resized to {new_w}x{new_h}, "
            f"found {canvas_w}x{canvas_h}; use a square canvas"
        )
    return (new_h, new_w), (new_w / w, new_h / h)


# --- mirroring


def flip_points(points: np.ndarray, width: int, flip_indices: tuple[int, ...] | None = None) -> np.ndarray:
    """Points (..., K, 2) of the mirrored picture, `width` px wide; left and right swap by `flip_indices` when given."""
    points = np.array(points, copy=True)
    points[..., 0] = width - 1 - points[..., 0]
    return points if flip_indices is None else points[..., list(flip_indices), :]


def flip_boxes(boxes: np.ndarray, width: int) -> np.ndarray:
    """Boxes (..., 4) xyxy of the mirrored picture, `width` px wide; x1 stays the left edge."""
    boxes = np.array(boxes, copy=True)
    boxes[..., [0, 2]] = width - 1 - boxes[..., [2, 0]]
    return boxes


# --- overlap and suppression of boxes


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of every box of `a` (N, 4) with every box of `b` (M, 4), xyxy px: (N, M) float32; 0 where both are empty."""
    return _iou(np.asarray(a, np.float32).reshape(-1, 4), np.asarray(b, np.float32).reshape(-1, 4), np.float32(0))


def _iou(a: np.ndarray, b: np.ndarray, extra: np.float32) -> np.ndarray:
    left_top = np.maximum(a[:, None, :2], b[None, :, :2])
    right_bottom = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.maximum(right_bottom - left_top + extra, np.float32(0))
    shared = sides[..., 0] * sides[..., 1]
    area_a = np.prod(a[:, 2:] - a[:, :2] + extra, axis=1)
    area_b = np.prod(b[:, 2:] - b[:, :2] + extra, axis=1)
    union = area_a[:, None] + area_b[None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union != 0)


def nms(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Greedy suppression: a box goes when its IoU with a better, kept one is strictly above `threshold`.

    Args:
        boxes: (N, 4) xyxy px. scores: (N,).
        threshold: 0..1.

    Returns:
        (M,) int64 indices of the kept boxes, best score first; equal scores keep their order.

    Source: mmcv `ops/csrc/pytorch/cpu/nms.cpp`; a pair of empty boxes (0 / 0) suppresses nothing.
    """
    return _greedy(boxes, scores, threshold, np.float32(0))


def nms_inclusive(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """As `nms`, with sizes that count both edge pixels (`x2 - x1 + 1`), as the Sapiens and mmpose demos do.

    Source: mmpose `evaluation/functional/nms.py`.
    """
    return _greedy(boxes, scores, threshold, np.float32(1))


def _greedy(boxes: np.ndarray, scores: np.ndarray, threshold: float, extra: np.float32) -> np.ndarray:
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    order = np.argsort(-np.asarray(scores, np.float32), kind="stable")
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        overlap = _iou(boxes[best][None], boxes[order], extra)[0]
        order = order[overlap <= np.float32(threshold)]
    return np.array(kept, np.int64)


# --- overlap and suppression of poses


def oks(
    keypoints: np.ndarray,
    others: np.ndarray,
    area: float,
    other_areas: np.ndarray,
    sigmas: np.ndarray | tuple[float, ...],
    other_scores: np.ndarray | None = None,
    vis_thr: float | None = None,
) -> np.ndarray:
    """Object keypoint similarity of one pose with others, over the mean of both areas, as OKS suppression uses it.

    Args:
        keypoints: (K, 2) px. others: (N, K, 2) px.
        area: px^2 of the padded crop. other_areas: (N,).
        sigmas: (K,) per-keypoint constants of the skeleton.
        other_scores: (N, K) keypoint scores of `others`, needed with `vis_thr`.
        vis_thr: count only keypoints whose score in the *other* pose is above it; None counts all, as the published
            evaluations do.

    Returns:
        (N,) float64 in 0..1; 0 where no keypoint counts.

    Source: mmpose `oks_iou`.
    """
    others = np.asarray(others, np.float64)
    squared = np.sum((others - np.asarray(keypoints, np.float64)) ** 2, axis=-1)
    variance = (2 * np.asarray(sigmas, np.float64)) ** 2
    mean_area = (area + np.asarray(other_areas, np.float64)) / 2 + np.spacing(1)
    closeness = np.exp(-squared / variance / mean_area[:, None] / 2)
    counted = np.ones(closeness.shape, bool)
    if vis_thr is not None:
        counted = np.asarray(other_scores) > vis_thr
    return np.sum(closeness * counted, axis=1) / np.maximum(counted.sum(axis=1), 1)


def oks_nms(
    keypoints: np.ndarray,
    scores: np.ndarray,
    areas: np.ndarray,
    sigmas: np.ndarray | tuple[float, ...],
    threshold: float = 0.9,
    *,
    soft: bool = False,
    keypoint_scores: np.ndarray | None = None,
    vis_thr: float | None = None,
    max_people: int = 20,
) -> np.ndarray:
    """Greedy suppression of poses by OKS; a pose stays when its OKS with every better kept one is at most `threshold`.

    Args:
        keypoints: (N, K, 2) px. scores: (N,), or (N, K) whose mean over keypoints counts.
        areas: (N,) px^2 of the padded crops.
        sigmas: (K,) per-keypoint constants of the skeleton.
        threshold: 0..1; with `soft` the divisor of the decay.
        soft: lower the scores of neighbours by `exp(-oks^2 / threshold)` instead of removing them, and keep the best
            `max_people`.
        keypoint_scores: (N, K), needed with `vis_thr`. vis_thr: see `oks`.

    Returns:
        (M,) int64 indices of the kept poses, best first.

    Source: mmpose `oks_nms`, `soft_oks_nms`.
    """
    keypoints, areas = np.asarray(keypoints), np.asarray(areas)
    scores = np.asarray(scores, np.float64)
    remaining = scores.mean(axis=1) if scores.ndim == 2 else scores.copy()
    order = np.argsort(-remaining, kind="stable")
    kept = []
    while len(order) and not (soft and len(kept) == max_people):
        best, order = order[0], order[1:]
        kept.append(best)
        visible = None if keypoint_scores is None else np.asarray(keypoint_scores)[order]
        overlap = oks(keypoints[best], keypoints[order], areas[best], areas[order], sigmas, visible, vis_thr)
        if soft:
            remaining[order] *= np.exp(-(overlap**2) / threshold)
            order = order[np.argsort(-remaining[order], kind="stable")]
        else:
            order = order[overlap <= threshold]
    return np.array(kept, np.int64)
