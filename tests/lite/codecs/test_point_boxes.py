"""`PointBoxes` against mmdetection's own post-processing."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from lite.codecs.point_boxes import PointBoxes
from lite.errors import ConfigError
from lite.geometry import letterbox_geometry, nms, nms_inclusive
from lite.models.rtmdet import MEAN_BGR, STD_BGR, rtmdet_from_state_dict, sizes_from_tensors

FILES = [f"{tag}_{canvas}" for tag in ("std", "nano", "multi") for canvas in ("320x320", "192x256")]
STRIDES = (8, 16, 32)


def rules(test_cfg, **more):
    return PointBoxes(
        score_thr=test_cfg["score_thr"],
        nms_pre=test_cfg["nms_pre"],
        nms_thr=test_cfg["nms"] and test_cfg["nms"]["iou_threshold"],
        max_per_frame=test_cfg["max_per_img"],
        min_box_px=test_cfg["min_bbox_size"],
        **more,
    )


def cases(golden, name):
    """(array prefix, rules, cls, reg, canvas, scale, arrays) of every stored result of one file."""
    about = json.loads((golden / "rtmdet" / f"{name.split('_')[0]}.json").read_text())
    case = next(case for case in about["cases"] if case["file"] == f"{name}.npz")
    stored = dict(np.load(golden / "rtmdet" / f"{name}.npz"))
    for key in stored:
        if not key.endswith(".pre_boxes"):
            continue
        config, space, picture, _ = key.split(".")
        levels = [[torch.from_numpy(stored[f"{kind}_s{s}"][int(picture)]) for s in STRIDES] for kind in ("cls", "reg")]
        scale = case["metas"][int(picture)]["scale_factor"] if space == "orig" else (1.0, 1.0)
        prefix = f"{config}.{space}.{picture}."
        yield prefix, about["post_configs"][config], *levels, (case["height"], case["width"]), scale, stored


@pytest.mark.parametrize("name", FILES)
def test_boxes_before_and_after_suppression(golden, name):
    count = 0
    for prefix, test_cfg, cls, reg, canvas_hw, scale, stored in cases(golden, name):
        codec = rules(test_cfg)
        before = codec.candidates(cls, reg, canvas_hw, scale)
        after = codec.suppress(*before)
        for stage, found in (("pre", before), ("post", after)):
            expected = [stored[f"{prefix}{stage}_{part}"] for part in ("boxes", "scores", "labels")]
            if prefix.startswith("coco"):
                found, expected = in_fixed_order(*found), in_fixed_order(*expected)
            assert len(found[0]) == len(expected[0])
            np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=1e-3)
            np.testing.assert_allclose(found[1], expected[1], rtol=0, atol=1e-6)
            np.testing.assert_array_equal(found[2], expected[2])
        count += 1
    assert count >= 7


def in_fixed_order(boxes, scores, labels):
    """Equal scores stand in any order in the original."""
    order = np.lexsort((*boxes.T, labels, scores))
    return boxes[order], scores[order], labels[order]


@pytest.mark.parametrize("name", FILES)
def test_graph_candidates_give_the_same_final_boxes(golden, name):
    compared = 0
    for prefix, test_cfg, cls, reg, canvas_hw, _, stored in cases(golden, name):
        if not prefix.startswith(("person.net", "tight.net")):
            continue
        codec = rules(test_cfg, max_candidates=2100)
        boxes, scores, labels = codec.decode([level[None] for level in cls], [level[None] for level in reg], canvas_hw)
        assert boxes.shape == (1, 2100, 4) and scores.shape == labels.shape == (1, 2100)
        used = scores[0] > 0
        found = [part[0][used].numpy() for part in (boxes, scores, labels)]
        big = (found[0][:, 2:] - found[0][:, :2] > test_cfg["min_bbox_size"]).all(1)
        final = codec.suppress(*(part[big] for part in found))
        np.testing.assert_allclose(final[0], stored[f"{prefix}post_boxes"], rtol=0, atol=1e-3)
        np.testing.assert_allclose(final[1], stored[f"{prefix}post_scores"], rtol=0, atol=1e-6)
        np.testing.assert_array_equal(final[2], stored[f"{prefix}post_labels"])
        compared += 1
    assert compared >= 2


def test_one_class_alone():
    torch.manual_seed(0)
    cls = [torch.randn(2, 3, side, side) for side in (8, 4, 2)]
    reg = [torch.rand(2, 4, side, side) * 20 for side in (8, 4, 2)]
    boxes, scores, labels = PointBoxes(person_label=1, score_thr=0.4, max_candidates=50).decode(cls, reg, (64, 64))
    alone, same, zeros = PointBoxes(score_thr=0.4, max_candidates=50).decode([c[:, 1:2] for c in cls], reg, (64, 64))
    assert torch.equal(boxes, alone) and torch.equal(scores, same)
    assert (zeros == 0).all() and (labels == 1).all()
    assert (scores[:, 0] > 0.4).all()


def test_nobody_is_zeros_and_short_canvases_are_filled_up():
    cls = [torch.full((1, 1, side, side), -20.0) for side in (8, 4, 2)]
    reg = [torch.ones(1, 4, side, side) for side in (8, 4, 2)]
    codec = PointBoxes()
    boxes, scores, labels = codec.decode(cls, reg, (64, 64))  # 84 locations, 300 places
    assert boxes.shape == (1, 300, 4) and not boxes.any() and not scores.any() and not labels.any()
    empty = codec.postprocess([c[0] for c in cls], [r[0] for r in reg], (64, 64))
    assert [part.shape for part in empty] == [(0, 4), (0,), (0,)]


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_no_box(broken):
    cls = [torch.full((1, 1, side, side), -20.0) for side in (8, 4, 2)]
    reg = [torch.ones(1, 4, side, side) for side in (8, 4, 2)]
    cls[0][0, 0, 0] = torch.tensor([5.0, float("nan"), 5.0, 5.0, 5.0, 5.0, 5.0, 5.0])
    reg[0][0, 1, 0, 2:] = broken
    boxes, scores, _ = PointBoxes().decode(cls, reg, (64, 64))
    assert boxes.isfinite().all() and scores.isfinite().all()
    assert (scores > 0).sum() == (1 if broken != broken else 7)


def test_boxes_are_clipped_to_the_canvas():
    cls = [torch.zeros(1, 1, side, side) for side in (8, 4, 2)]
    reg = [torch.full((1, 4, side, side), 1000.0) for side in (8, 4, 2)]
    boxes, _, _ = PointBoxes(score_thr=0.1, max_candidates=5).decode(cls, reg, (64, 48))
    assert torch.equal(boxes, torch.tensor([0.0, 0.0, 48.0, 64.0]).expand(1, 5, 4))


class Graph(nn.Module):
    def __init__(self, codec):
        super().__init__()
        self.codec = codec

    def forward(self, cls, reg):
        return self.codec.decode(cls, reg, (64, 64))


def test_exports_with_any_batch():
    torch.manual_seed(1)

    def levels(batch):
        return [torch.randn(batch, 2, s, s) for s in (8, 4, 2)], [torch.rand(batch, 4, s, s) * 30 for s in (8, 4, 2)]

    graph = Graph(PointBoxes(max_candidates=60))
    batch = {0: torch.export.Dim("batch", min=1, max=16)}
    program = torch.export.export(graph, levels(3), dynamic_shapes=([batch] * 3, [batch] * 3))
    for size in (1, 2, 5):
        inputs = levels(size)
        for found, expected in zip(program.module()(*inputs), graph(*inputs)):
            assert torch.equal(found, expected)


def test_suppression_cases(golden):
    stored = np.load(golden / "rtmdet/nms_cases.npz")
    compared = 0
    for key in stored:
        name, *rest = key.split(".")
        if name in ("multi", "select") or not rest[0].startswith("keep"):
            continue
        threshold = float(key.split("_")[-1])
        rule = nms_inclusive if "plus1" in key else nms
        np.testing.assert_array_equal(rule(stored[f"{name}.boxes"], stored[f"{name}.scores"], threshold), stored[key])
        compared += 1
    assert compared >= 50


def test_suppression_per_class_and_across(golden):
    stored = np.load(golden / "rtmdet/nms_cases.npz")
    boxes, scores, labels = (stored[f"multi.{part}"] for part in ("boxes", "scores", "labels"))
    keys = [key for key in stored if key.startswith("multi.keep_")]
    for key in keys:
        if key == "multi.keep_none":
            codec = PointBoxes(nms_thr=None, max_per_frame=1000)
        else:
            _, _, threshold, how = key.replace("multi.", "multi_").split("_")
            codec = PointBoxes(nms_thr=float(threshold), class_agnostic=how == "agnostic", max_per_frame=1000)
        found = codec.suppress(boxes, scores, labels)
        for part, expected in zip(found, (boxes, scores, labels)):
            np.testing.assert_array_equal(part, expected[stored[key]])
    assert len(keys) == 5


def test_class_by_class_is_the_same(golden, monkeypatch):
    stored = np.load(golden / "rtmdet/nms_cases.npz")
    arrays = [stored[f"multi.{part}"] for part in ("boxes", "scores", "labels")]
    monkeypatch.setattr("lite.codecs.point_boxes.CLASS_BY_CLASS_FROM", 1)
    found = PointBoxes(nms_thr=0.5, max_per_frame=1000).suppress(*arrays)
    np.testing.assert_array_equal(found[1], arrays[1][stored["multi.keep_0.5_perclass"]])


def test_demo_selection(golden):
    stored = np.load(golden / "rtmdet/nms_cases.npz")
    boxes, scores, labels = (stored[f"multi.{part}"] for part in ("boxes", "scores", "labels"))
    keys = [key for key in stored if key.startswith("select.")]
    for key in keys:
        _, box_thr, nms_thr = key.split("_")
        chosen = (labels == 0) & (scores > float(box_thr))
        kept = nms_inclusive(boxes[chosen], scores[chosen], float(nms_thr))
        np.testing.assert_array_equal(boxes[chosen][kept], stored[key])
    assert keys


def test_way_back_to_the_picture(golden):
    stored = np.load(golden / "rtmdet/rescale_cases.npz")
    names = sorted({key.split(".")[0] for key in stored})
    for name in names:
        canvas = stored[f"{name}.net_boxes"]
        scale = stored[f"{name}.scale_factor"]
        inverse = np.tile(1 / scale, 2).astype(np.float32)
        np.testing.assert_allclose(canvas * inverse, stored[f"{name}.ori_boxes"], rtol=0, atol=1e-3)
        ori = tuple(int(side) for side in stored[f"{name}.ori_hw"])
        resized = tuple(int(side) for side in stored[f"{name}.resized_hw"])
        fitting = [side for side in (320, 416, 640, 256, 512) if letterbox_geometry(ori, (side, side))[0] == resized]
        assert fitting
        np.testing.assert_allclose(letterbox_geometry(ori, (fitting[0],) * 2)[1], scale, rtol=0, atol=1e-9)
    assert names


def test_picture_to_boxes(shared, golden):
    """Photograph -> canvas -> network -> boxes."""
    folder = shared / "reference/rtmdet/golden"
    stored = np.load(folder / "e2e.npz")
    for case in json.loads((folder / "e2e.json").read_text()):
        tag, side = case["weights"].removesuffix(".pth"), case["canvas"]
        about = json.loads((golden / f"rtmdet/{tag}.json").read_text())
        state = torch.load(golden / f"rtmdet/{case['weights']}", weights_only=True)["state_dict"]
        sizes = replace(sizes_from_tensors(state), exp_on_reg=about["model"]["bbox_head"]["exp_on_reg"])
        picture = cv2.imread(str(folder / case["image"]))
        (height, width), scale = letterbox_geometry(picture.shape[:2], (side, side))
        canvas = np.full((side, side, 3), 114, np.uint8)
        canvas[:height, :width] = cv2.resize(picture, (width, height))
        x = (canvas.astype(np.float32) - np.float32(MEAN_BGR)) / np.float32(STD_BGR)
        with torch.no_grad():
            raw = rtmdet_from_state_dict(state, {"CLASSES": [str(i) for i in range(sizes.num_classes)]}, sizes=sizes)(
                torch.from_numpy(x.transpose(2, 0, 1)[None])
            )
        codec = rules(about["post_configs"][case["post_config"]])
        found = codec.postprocess([c[0] for c in raw["cls"]], [r[0] for r in raw["reg"]], (side, side), scale)
        assert len(found[0]) == case["n"]
        np.testing.assert_allclose(found[0], stored[f"{case['key']}.boxes"], rtol=0, atol=2e-2)
        np.testing.assert_allclose(found[1], stored[f"{case['key']}.scores"], rtol=0, atol=1e-5)
        np.testing.assert_array_equal(found[2], stored[f"{case['key']}.labels"])


def test_counts_must_be_positive():
    with pytest.raises(ConfigError, match="max_candidates"):
        PointBoxes(max_candidates=0)
