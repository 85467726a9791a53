"""The assignment on cases small enough to do by hand, and the losses."""

import math

import pytest
import torch
from torch.nn import functional as F

from lite.train.detection_loss import (
    assign,
    decode_sides,
    detection_loss,
    flatten_levels,
    giou,
    locations,
    pairwise_iou,
    quality_focal,
    unknown_locations,
)

NOBODY = torch.zeros(0, 4)
NO_LABEL = torch.zeros(0, dtype=torch.int64)


def grid(side=4, stride=8):
    return locations([torch.zeros(1, 1, side, side)], [stride])


def test_locations_are_cell_corners_with_x_fastest():
    points, strides = locations([torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 1, 1)], (8, 16))
    assert points.tolist() == [[0, 0], [8, 0], [16, 0], [0, 8], [8, 8], [16, 8], [0, 0]]
    assert strides.tolist() == [8] * 6 + [16]
    maps = torch.arange(12.0).view(1, 2, 2, 3)
    assert flatten_levels([maps])[0, :, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_overlaps():
    a = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1]])
    b = torch.tensor([[1.0, 1, 3, 3], [2, 2, 3, 3]])
    assert torch.allclose(pairwise_iou(a, b), torch.tensor([[1 / 7, 0.0], [0.0, 0.0]]))
    # one box: union 7, hull 9; the other: union 2, hull 9
    assert torch.allclose(giou(a, b), torch.tensor([1 / 7 - 2 / 9, 0 - 7 / 9]))
    assert torch.allclose(giou(a, a), torch.ones(2))


def test_quality_focal_by_hand():
    logit, target = torch.tensor(0.0), torch.tensor(0.9)
    assert quality_focal(logit, target).item() == pytest.approx(0.4**2 * math.log(2))
    confident = quality_focal(torch.tensor([4.0]), torch.sigmoid(torch.tensor([4.0])))
    assert confident.item() == pytest.approx(0, abs=1e-6)


def test_nobody_is_all_background():
    points, strides = grid()
    matched, quality = assign(points, strides, torch.zeros(16, 1), torch.zeros(16, 4), NOBODY, NO_LABEL)
    assert (matched == -1).all() and (quality == 0).all()


def test_box_between_the_points_gets_no_location():
    points, strides = grid()
    truth = torch.tensor([[1.0, 1, 7, 7]])
    matched, _ = assign(points, strides, torch.zeros(16, 1), torch.zeros(16, 4), truth, torch.tensor([0]))
    assert (matched == -1).all()


def test_number_of_locations_is_the_sum_of_ious():
    """Two points predict the box exactly, the others predict nothing: two locations, and those two."""
    points, strides = grid()
    truth = torch.tensor([[-1.0, -1, 25, 25]])  # all 16 points are inside
    boxes = torch.cat((points, points), 1)  # empty
    boxes[5], boxes[10] = truth[0], truth[0]
    matched, quality = assign(points, strides, torch.zeros(16, 1), boxes, truth, torch.tensor([0]))
    assert torch.nonzero(matched == 0)[:, 0].tolist() == [5, 10]
    assert quality[[5, 10]].tolist() == [1, 1] and quality.sum() == 2


def test_at_least_one_location_and_it_is_the_central_one():
    """No prediction overlaps, scores are alike: the distance to the centre (13, 13) decides, (16, 16) is nearest."""
    points, strides = grid()
    truth = torch.tensor([[1.0, 1, 25, 25]])
    matched, quality = assign(
        points, strides, torch.zeros(16, 1), torch.cat((points, points), 1), truth, torch.tensor([0])
    )
    assert torch.nonzero(matched == 0)[:, 0].tolist() == [10] and quality.sum() == 0


def test_cost_by_hand():
    """Two points in the box: the nearer to the centre has the worse box; cost written out decides."""
    points = torch.tensor([[8.0, 8.0], [16.0, 8.0]])
    strides = torch.tensor([8.0, 8.0])
    truth = torch.tensor([[0.0, 0, 20, 20]])  # centre (10, 10)
    boxes = torch.tensor([[0.0, 0, 20, 8], [0.0, 0, 20, 11]])  # IoU 0.4 and 0.55: together less than 1, so one location
    logits = torch.tensor([[0.0], [0.0]])
    costs = []
    for (x, y), overlap in zip(points.tolist(), (0.4, 0.55)):
        distance = math.hypot(x - 10, y - 10) / 8
        class_cost = (overlap - 0.5) ** 2 * math.log(2)
        costs.append(class_cost - 3 * math.log(overlap + 1e-7) + 10 ** (distance - 3))
    winner = costs.index(min(costs))
    matched, quality = assign(points, strides, logits, boxes, truth, torch.tensor([0]))
    assert winner == 1 and matched.tolist() == [-1, 0]
    assert quality.tolist() == pytest.approx([0, 0.55])


def test_location_wanted_twice_goes_to_the_cheaper_person():
    points, strides = torch.tensor([[8.0, 8.0]]), torch.tensor([8.0])
    truth = torch.tensor([[0.0, 0, 40, 40], [4.0, 4, 12, 12]])
    boxes = torch.tensor([[4.0, 4, 12, 11]])
    matched, quality = assign(points, strides, torch.zeros(1, 1), boxes, truth, torch.tensor([0, 0]))
    assert matched.tolist() == [1] and quality.tolist() == pytest.approx([7 / 8])


def test_class_of_the_true_box_counts():
    """Equal boxes; the location that already believes in the class is taken."""
    points = torch.tensor([[8.0, 8.0], [12.0, 8.0]])
    truth = torch.tensor([[0.0, 0, 20, 16]])  # centre (10, 8): both equally far
    boxes = torch.tensor([[0.0, 0, 20, 8], [0.0, 0, 20, 8]])
    logits = torch.tensor([[3.0, 0.0], [0.0, 3.0]])
    matched, _ = assign(points, torch.tensor([8.0, 8.0]), logits, boxes, truth, torch.tensor([1]))
    assert matched.tolist() == [-1, 0]
    matched, _ = assign(points, torch.tensor([8.0, 8.0]), logits, boxes, truth, torch.tensor([0]))
    assert matched.tolist() == [0, -1]


def test_unknown_locations_are_in_a_region_and_in_no_person():
    points = torch.tensor([[0.0, 0], [10, 10], [30, 30]])
    region, person = torch.tensor([[0.0, 0, 20, 20]]), torch.tensor([[8.0, 8, 12, 12]])
    assert unknown_locations(points, person, region).tolist() == [True, False, False]
    assert unknown_locations(points, NOBODY, NOBODY).tolist() == [False] * 3


def maps(seed=0, batch=1, classes=1):
    torch.manual_seed(seed)
    sizes = ((8, 8), (4, 16), (2, 32))
    cls = [torch.randn(batch, classes, side, side, requires_grad=True) for side, _ in sizes]
    reg = [(torch.rand(batch, 4, side, side) * stride * 2).requires_grad_() for side, stride in sizes]
    return cls, reg


def loss(cls, reg, truth, ignored, **more):
    labels = [torch.zeros(len(boxes), dtype=torch.int64) for boxes in truth]
    return detection_loss(cls, reg, (8, 16, 32), truth, labels, ignored, **more)


def test_empty_pictures_push_scores_down_alone():
    cls, reg = maps(batch=2)
    losses = loss(cls, reg, [NOBODY, NOBODY], [NOBODY, NOBODY])
    losses["loss"].backward()
    assert losses["box_loss"] == 0 and losses["class_loss"] > 0 and losses["matches"] == 0
    assert all((level.grad > 0).all() for level in cls)
    assert all(level.grad is None or not level.grad.any() for level in reg)
    expected = sum(quality_focal(level.detach(), torch.zeros_like(level)).sum() for level in cls)
    assert losses["class_loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_unknown_background_teaches_nothing():
    cls, reg = maps()
    whole = torch.tensor([[0.0, 0, 64, 64]])
    losses = loss(cls, reg, [NOBODY], [whole])
    assert losses["loss"] == 0
    taught = flatten_levels(cls).sigmoid().detach()
    assert loss(cls, reg, [NOBODY], [whole], teacher_scores=taught)["loss"].item() == pytest.approx(0, abs=1e-6)
    other = loss(cls, reg, [NOBODY], [whole], teacher_scores=torch.zeros_like(taught), teacher_weight=0.5)
    full = loss(cls, reg, [NOBODY], [NOBODY])
    assert other["loss"].item() == pytest.approx(0.5 * full["loss"].item(), rel=1e-5)


def test_loss_is_the_sum_of_its_parts_by_hand():
    """One person, one level in use: recompute both parts from the assignment."""
    cls, reg = maps(seed=3)
    truth = torch.tensor([[6.0, 6, 40, 50]])
    losses = loss(cls, reg, [truth], [NOBODY])
    points, strides = locations(cls, (8, 16, 32))
    logits = flatten_levels(cls)[0].detach()
    boxes = decode_sides(points, flatten_levels(reg)[0].detach())
    matched, quality = assign(points, strides, logits, boxes, truth, torch.tensor([0]))
    total = max(1.0, quality.sum().item())
    target = quality[:, None]
    focal = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * (target - logits.sigmoid()) ** 2
    found = matched == 0
    box = 2 * ((1 - giou(boxes[found], truth.expand(found.sum(), 4))) * quality[found]).sum() / total
    assert losses["class_loss"].item() == pytest.approx(focal.sum().item() / total, rel=1e-5)
    assert losses["box_loss"].item() == pytest.approx(box.item(), rel=1e-5)
    assert losses["matches"] == found.sum()


def test_boxes_are_learnt():
    cls, reg = maps(batch=2)
    truth = [torch.tensor([[4.0, 4, 30, 60], [34.0, 10, 60, 50]]), torch.tensor([[10.0, 2, 50, 40]])]
    optimizer = torch.optim.Adam([*cls, *reg], lr=0.5)
    first = None
    for _ in range(120):
        losses = loss(cls, reg, truth, [NOBODY, NOBODY])
        first = first or losses["loss"].item()
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
    assert losses["loss"].item() < 0.2 * first and losses["matches"] > 10
    points, _ = locations(cls, (8, 16, 32))
    boxes = decode_sides(points, flatten_levels(reg))
    best = flatten_levels(cls)[0, :, 0].argmax()
    assert pairwise_iou(boxes[0][best][None], truth[0]).max() > 0.8
