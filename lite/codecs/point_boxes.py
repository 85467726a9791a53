"""Anchor-free detector outputs to boxes: each location predicts distances to the four sides of its box.

`PointBoxes.decode` is the part inside the pixel graph: tensors only, a fixed number of candidates, before suppression.
`PointBoxes.postprocess` is the whole published procedure for one frame, with suppression, as mmdetection does it.

Source: mmdetection 3.3.0, `BaseDenseHead._predict_by_feat_single`, `filter_scores_and_topk`; mmcv `batched_nms`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lite.errors import ConfigError
from lite.geometry import nms

# From this many boxes on mmcv suppresses class by class instead of moving the classes apart.
CLASS_BY_CLASS_FROM = 10000


class PointBoxes(nn.Module):
    """Boxes from per-level logits and distances; locations are cell corners (x * stride, y * stride).

    Args:
        strides: px per cell of each level.
        score_thr: candidates must score above it.
        nms_pre: best candidates kept per level.
        max_candidates: fixed number `decode` returns.
        person_label: `decode` looks at this class alone; None looks at all, and a location may give several boxes.
        nms_thr: IoU above which `postprocess` drops the weaker box; None suppresses nothing.
        max_per_frame: boxes `postprocess` returns at most.
        min_box_px: `postprocess` keeps boxes with both sides longer; None keeps all.
        class_agnostic: suppress across classes.
    """

    def __init__(
        self,
        *,
        strides: Sequence[int] = (8, 16, 32),
        score_thr: float = 0.05,
        nms_pre: int = 1000,
        max_candidates: int = 300,
        person_label: int | None = None,
        nms_thr: float | None = 0.6,
        max_per_frame: int = 100,
        min_box_px: float | None = 0.0,
        class_agnostic: bool = False,
    ) -> None:
        super().__init__()
        if min(nms_pre, max_candidates, max_per_frame) < 1:
            raise ConfigError("point_boxes: nms_pre, max_candidates and max_per_frame must be at least 1")
        self.strides = tuple(strides)
        self.score_thr = score_thr
        self.nms_pre = nms_pre
        self.max_candidates = max_candidates
        self.person_label = person_label
        self.nms_thr = nms_thr
        self.max_per_frame = max_per_frame
        self.min_box_px = min_box_px
        self.class_agnostic = class_agnostic

    def decode(
        self, cls: Sequence[Tensor], reg: Sequence[Tensor], canvas_hw: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The best candidates of each frame, in float32 and by descending score.

        Args:
            cls: per level (B, classes, h/s, w/s) logits.
            reg: per level (B, 4, h/s, w/s) distances left, top, right, bottom, canvas px.
            canvas_hw: boxes are clipped to it, px.

        Returns:
            boxes (B, n, 4) float32 xyxy canvas px, scores (B, n) float32, labels (B, n) int64, with n = max_candidates;
            places without a finite candidate above `score_thr` have score 0 and an empty box.
        """
        levels = [self._level(*level, canvas_hw) for level in zip(cls, reg, self.strides, strict=True)]
        boxes, scores, labels = (torch.cat(parts, 1) for parts in zip(*levels))
        scores, order = scores.topk(min(self.max_candidates, scores.shape[1]), dim=1)
        boxes = boxes.gather(1, order.unsqueeze(2).expand(-1, -1, 4))
        labels = labels.gather(1, order)
        empty = ~((scores > self.score_thr) & boxes.isfinite().all(2))  # also where a score is not a number
        scores = scores.masked_fill(empty, 0.0)
        boxes = boxes.masked_fill(empty.unsqueeze(2), 0.0)
        short = self.max_candidates - scores.shape[1]
        if short:
            boxes, scores, labels = F.pad(boxes, (0, 0, 0, short)), F.pad(scores, (0, short)), F.pad(labels, (0, short))
        return boxes, scores, labels

    forward = decode

    def _level(
        self, cls: Tensor, reg: Tensor, stride: int, canvas_hw: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Best boxes (B, k, 4), scores (B, k) and labels (B, k) of one level."""
        width = cls.shape[3]
        if self.person_label is not None:
            cls = cls[:, self.person_label : self.person_label + 1]
        classes = cls.shape[1]
        scores = cls.float().sigmoid().flatten(2).transpose(1, 2).flatten(1)  # (B, h*w*classes), class fastest
        best = min(self.nms_pre, self.max_candidates, scores.shape[1])
        scores, index = scores.topk(best, dim=1)
        cell = torch.div(index, classes, rounding_mode="floor")
        labels = index - cell * classes if self.person_label is None else torch.full_like(index, self.person_label)
        sides = reg.float().flatten(2).gather(2, cell.unsqueeze(1).expand(-1, 4, -1))  # (B, 4, k)
        row = torch.div(cell, width, rounding_mode="floor")
        x, y = ((cell - row * width) * stride).float(), (row * stride).float()
        return _boxes(x, y, sides, canvas_hw), scores, labels

    def candidates(
        self,
        cls: Sequence[Tensor],
        reg: Sequence[Tensor],
        canvas_hw: tuple[int, int],
        scale_xy: tuple[float, float] = (1.0, 1.0),
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All boxes of one frame before suppression, level after level, each by descending score.

        Args:
            cls: per level (classes, h/s, w/s) logits. reg: per level (4, h/s, w/s) distances, canvas px.
            canvas_hw: boxes are clipped to it, px.
            scale_xy: canvas px per frame px in x and y, as `letterbox_geometry` gives it.

        Returns:
            boxes (M, 4) float32 xyxy frame px (not clipped to the frame), scores (M,) float32, labels (M,) int64.
        """
        boxes, scores, labels = [], [], []
        for level, distances, stride in zip(cls, reg, self.strides, strict=True):
            classes, _, width = level.shape
            score = level.float().sigmoid().permute(1, 2, 0).flatten()
            index = torch.nonzero(score > self.score_thr)[:, 0]
            best, order = score[index].sort(descending=True, stable=True)
            index, best = index[order][: self.nms_pre], best[: self.nms_pre]
            cell = index // classes
            x, y = (cell % width * stride).float(), (cell // width * stride).float()
            boxes.append(_boxes(x, y, distances.float().flatten(1)[:, cell], canvas_hw))
            scores.append(best)
            labels.append(index % classes)
        inverse = torch.tensor([1 / side for side in scale_xy], dtype=torch.float32).repeat(2)
        found = (torch.cat(boxes).cpu() * inverse, torch.cat(scores).cpu(), torch.cat(labels).cpu())
        if self.min_box_px is not None:
            sides = found[0][:, 2:] - found[0][:, :2]
            keep = (sides > self.min_box_px).all(1)
            found = tuple(part[keep] for part in found)
        return tuple(part.numpy() for part in found)

    def postprocess(
        self,
        cls: Sequence[Tensor],
        reg: Sequence[Tensor],
        canvas_hw: tuple[int, int],
        scale_xy: tuple[float, float] = (1.0, 1.0),
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Final boxes of one frame, best first; arguments and results as `candidates`."""
        boxes, scores, labels = self.candidates(cls, reg, canvas_hw, scale_xy)
        return self.suppress(boxes, scores, labels)

    def suppress(
        self, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Suppression within each class (or across them) and the cut to `max_per_frame`, best first."""
        if self.nms_thr is None:
            keep = np.argsort(-scores, kind="stable")
        elif self.class_agnostic:
            keep = nms(boxes, scores, self.nms_thr)
        elif len(boxes) < CLASS_BY_CLASS_FROM:
            apart = boxes.max(initial=0.0) + np.float32(1)
            keep = nms(boxes + (labels[:, None] * apart).astype(np.float32), scores, self.nms_thr)
        else:
            kept = [np.flatnonzero(labels == label) for label in np.unique(labels)]
            keep = np.concatenate([of[nms(boxes[of], scores[of], self.nms_thr)] for of in kept])
            keep = keep[np.argsort(-scores[keep], kind="stable")]
        keep = keep[: self.max_per_frame]
        return boxes[keep], scores[keep], labels[keep]


def _boxes(x: Tensor, y: Tensor, sides: Tensor, canvas_hw: tuple[int, int]) -> Tensor:
    """Clipped boxes (..., k, 4) from points (..., k) and distances (..., 4, k), all canvas px."""
    left, top, right, bottom = sides.unbind(-2)
    height, width = canvas_hw
    return torch.stack(
        (
            (x - left).clamp(0, width),
            (y - top).clamp(0, height),
            (x + right).clamp(0, width),
            (y + bottom).clamp(0, height),
        ),
        -1,
    )
