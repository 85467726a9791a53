"""RTMDet's training rule: which locations answer for which person, and the losses that follow.

Source: Lyu et al., "RTMDet", section 3.3; mmdetection 3.3.0, `DynamicSoftLabelAssigner`, `QualityFocalLoss`, `GIoULoss`
and `RTMDetHead.loss_by_feat_single` for the numbers.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

TOP_LOCATIONS = 13  # the sum of the best IoUs among this many tells how many locations a person gets
CENTER_RADIUS = 3.0  # cells from the box centre where the centre cost is 1; it grows tenfold with every cell
IOU_WEIGHT = 3.0
GIOU_WEIGHT = 2.0
FOCAL_BETA = 2.0
TINY = 1e-7


def locations(levels: Sequence[Tensor], strides: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Points (N, 2) in canvas px and strides (N,) of all cells of maps (B, C, h, w), level after level, x fastest."""
    points, spacing = [], []
    for level, stride in zip(levels, strides, strict=True):
        height, width = level.shape[-2:]
        y, x = torch.meshgrid(
            torch.arange(height, device=level.device), torch.arange(width, device=level.device), indexing="ij"
        )
        points.append(torch.stack((x, y), 2).reshape(-1, 2).float() * stride)
        spacing.append(torch.full((height * width,), float(stride), device=level.device))
    return torch.cat(points), torch.cat(spacing)


def flatten_levels(levels: Sequence[Tensor]) -> Tensor:
    """Maps (B, C, h, w) of all levels as (B, N, C), in the order of `locations`."""
    return torch.cat([level.float().flatten(2).transpose(1, 2) for level in levels], 1)


def decode_sides(points: Tensor, sides: Tensor) -> Tensor:
    """Boxes (..., N, 4) xyxy from points (N, 2) and distances left, top, right, bottom (..., N, 4), all px."""
    return torch.cat((points - sides[..., :2], points + sides[..., 2:]), -1)


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """(N, M) overlap of boxes (N, 4) and (M, 4), xyxy."""
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (a, b)]
    return shared / (areas[0][:, None] + areas[1][None] - shared).clamp(min=1e-6)


def giou(a: Tensor, b: Tensor) -> Tensor:
    """(N,) generalised overlap of boxes (N, 4) with their partners (N, 4), xyxy; -1..1."""
    shared = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared
    union = union.clamp(min=1e-6)
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    hull = hull.clamp(min=1e-6)
    return shared / union - (hull - union) / hull


def quality_focal(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy with soft targets, weighted by the squared distance between score and target; same shape."""
    distance = (target - logits.sigmoid()).abs()
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none") * distance.pow(FOCAL_BETA)


@torch.no_grad()
def assign(
    points: Tensor, strides: Tensor, logits: Tensor, boxes: Tensor, truth: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Which true box each location answers for.

    Only locations inside some true box take part. A pair costs the more, the further its score is from its IoU, the
    smaller that IoU and the further the location from the box centre. Each true box takes its cheapest locations, as
    many as the sum of its best IoUs; a location taken twice goes to the cheaper box.

    Args:
        points: (N, 2) px. strides: (N,) px. logits: (N, C). boxes: (N, 4) predicted, px.
        truth: (M, 4) px. labels: (M,) int64.

    Returns:
        matched: (N,) int64 index into `truth`, -1 for background.
        quality: (N,) IoU of the predicted box with its true box, 0 for background.
    """
    matched = points.new_full((len(points),), -1, dtype=torch.int64)
    quality = points.new_zeros(len(points))
    margins = torch.cat((points[:, None] - truth[None, :, :2], truth[None, :, 2:] - points[:, None]), 2)  # (N, M, 4)
    taking_part = torch.nonzero((margins.amin(2) > 0).any(1))[:, 0] if len(truth) else matched[:0]
    if not len(taking_part):
        return matched, quality
    overlap = pairwise_iou(boxes[taking_part], truth)  # (V, M)
    centers = (truth[:, :2] + truth[:, 2:]) / 2
    cells = (points[taking_part, None] - centers[None]).norm(dim=2) / strides[taking_part, None]
    scores = logits[taking_part][:, labels]  # (V, M) of the true box's class
    others = F.softplus(logits[taking_part]) * logits[taking_part].sigmoid().square()  # cost of classes it is not
    class_cost = quality_focal(scores, overlap) + others.sum(1, keepdim=True) - others[:, labels]
    cost = class_cost - IOU_WEIGHT * torch.log(overlap + TINY) + 10.0 ** (cells - CENTER_RADIUS)
    best = overlap.topk(min(TOP_LOCATIONS, len(taking_part)), dim=0).values.sum(0)
    counts = best.int().clamp(min=1)
    taken = torch.zeros_like(cost, dtype=torch.bool)
    for i, count in enumerate(counts.tolist()):
        taken[cost[:, i].topk(count, largest=False).indices, i] = True
    twice = taken.sum(1) > 1
    taken[twice] = F.one_hot(cost[twice].argmin(1), len(truth)).bool()
    chosen = taken.any(1)
    partner = taken[chosen].int().argmax(1)
    matched[taking_part[chosen]] = partner
    quality[taking_part[chosen]] = overlap[chosen].gather(1, partner[:, None])[:, 0]
    return matched, quality


def unknown_locations(points: Tensor, truth: Tensor, ignored: Tensor) -> Tensor:
    """(N,) whether a location lies in a region where people may be unlabelled, and in no labelled person's box."""

    def inside(boxes: Tensor) -> Tensor:
        return ((points[:, None] >= boxes[None, :, :2]) & (points[:, None] <= boxes[None, :, 2:])).all(2).any(1)

    return inside(ignored) & ~inside(truth)


def detection_loss(
    cls: Sequence[Tensor],
    reg: Sequence[Tensor],
    strides: Sequence[int],
    truth: Sequence[Tensor],
    labels: Sequence[Tensor],
    ignored: Sequence[Tensor],
    teacher_scores: Tensor | None = None,
    teacher_weight: float = 1.0,
) -> dict[str, Tensor]:
    """Losses of a batch, in sums over locations divided by the sum of qualities.

    Args:
        cls: per level (B, C, h, w) logits. reg: per level (B, 4, h, w) distances, canvas px.
        strides: px per cell of each level.
        truth: per picture (M, 4) xyxy canvas px. labels: per picture (M,) int64.
        ignored: per picture (I, 4) regions whose background is unknown; any I or M may be 0.
        teacher_scores: (B, N, C) scores 0..1 that stand in as targets where the background is unknown.

    Returns:
        `loss`, `class_loss`, `box_loss`, `matches` (locations with a person, per picture).
    """
    points, spacing = locations(cls, strides)
    logits, boxes = flatten_levels(cls), decode_sides(points, flatten_levels(reg))
    target = torch.zeros_like(logits)
    weight = torch.ones_like(logits[..., 0])
    pairs, qualities = [], []
    for i, (people, kinds, regions) in enumerate(zip(truth, labels, ignored, strict=True)):
        matched, quality = assign(points, spacing, logits[i].detach(), boxes[i].detach(), people, kinds)
        found = matched >= 0
        target[i, found, kinds[matched[found]]] = quality[found]
        unknown = unknown_locations(points, people, regions) & ~found
        if teacher_scores is None:
            weight[i, unknown] = 0
        else:
            weight[i, unknown] = teacher_weight
            target[i, unknown] = teacher_scores[i, unknown]
        pairs.append((boxes[i, found], people[matched[found]]))
        qualities.append(quality[found])
    quality = torch.cat(qualities)
    total = quality.sum().clamp(min=1)
    class_loss = (quality_focal(logits, target) * weight[..., None]).sum() / total
    predicted, wanted = (torch.cat(side) for side in zip(*pairs))
    box_loss = GIOU_WEIGHT * ((1 - giou(predicted, wanted)) * quality).sum() / total
    matches = torch.tensor(len(quality) / max(1, len(truth)))
    return {
        "loss": class_loss + box_loss,
        "class_loss": class_loss.detach(),
        "box_loss": box_loss.detach(),
        "matches": matches,
    }
