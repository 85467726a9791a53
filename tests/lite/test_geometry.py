"""Parity with the original crop and suppression code (tests/golden), round trips, and empty batches."""

import json
import time

import numpy as np
import pytest

from lite import geometry
from lite.errors import ConfigError
from lite.skeletons import load_skeleton


@pytest.fixture(scope="module")
def sapiens(golden):
    with np.load(golden / "sapiens" / "topdown_affine.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def vitpose(golden):
    return json.loads((golden / "vitpose" / "post" / "affine.json").read_text())


def test_box_center_scale_and_udp_matrix_of_sapiens(sapiens):
    for i in range(int(sapiens["num_cases"])):
        input_hw = tuple(int(side) for side in sapiens[f"input_size_{i}"][::-1])
        center, scale = geometry.box_to_center_scale(sapiens[f"bbox_{i}"][None], 1.25, input_hw)
        np.testing.assert_allclose(center[0], sapiens[f"center_{i}"], atol=1e-4)
        np.testing.assert_allclose(scale[0], sapiens[f"scale_{i}"], atol=1e-3)
        matrix = geometry.udp_affine(sapiens[f"center_{i}"], sapiens[f"scale_{i}"], input_hw)
        np.testing.assert_allclose(matrix, sapiens[f"warp_{i}"], atol=1e-4)


def test_udp_rotation_of_sapiens(sapiens):
    for i in range(2):
        input_hw = tuple(int(side) for side in sapiens[f"rot_input_size_{i}"][::-1])
        matrix = geometry.udp_affine(
            sapiens[f"rot_center_{i}"], sapiens[f"rot_scale_{i}"], input_hw, sapiens[f"rot_{i}"]
        )
        np.testing.assert_allclose(matrix, sapiens[f"rot_warp_{i}"], atol=1e-4)
        moved = geometry.transform_points(sapiens[f"rot_kpts_in_{i}"], matrix)
        np.testing.assert_allclose(moved, sapiens[f"rot_kpts_out_{i}"], atol=1e-3)


def test_box_to_center_scale_of_vitpose(vitpose):
    for case in vitpose["bbox_to_center_scale"]:
        x, y, w, h = case["bbox_xywh"]
        center, scale = geometry.box_to_center_scale(
            np.array([[x, y, x + w, y + h]]), case["padding"], tuple(case["input_wh"][::-1])
        )
        np.testing.assert_allclose(center[0], case["center"], atol=1e-3)
        np.testing.assert_allclose(scale[0] / 200, case["scale"], atol=1e-5)


def test_both_matrices_of_vitpose(vitpose):
    for case in vitpose["affine"]:
        input_hw = tuple(case["output_wh"][::-1])
        center, scale = np.array(case["center"]), 200 * np.array(case["scale"])
        classic = geometry.classic_affine(center, scale, input_hw, case["rotation_deg"])
        udp = geometry.udp_affine(center, scale, input_hw, case["rotation_deg"])
        np.testing.assert_allclose(classic, case["classic"], atol=2e-3)
        np.testing.assert_allclose(geometry.invert_affine(classic), case["classic_inverse"], atol=2e-3)
        np.testing.assert_allclose(udp, case["udp"], atol=2e-4)
        points = np.array(case["points"])
        np.testing.assert_allclose(geometry.transform_points(points, classic), case["points_classic"], atol=2e-2)
        np.testing.assert_allclose(geometry.transform_points(points, udp), case["points_udp"], atol=2e-2)


def test_decoded_points_return_to_the_frame_as_in_vitpose(vitpose):
    for case in vitpose["affine"]:
        input_wh, heatmap_wh = np.array(case["output_wh"]), np.array(case["heatmap_wh"])
        center, scale = np.array(case["center"]), 200 * np.array(case["scale"])
        heatmap_xy, input_hw = np.array(case["heatmap_points"]), tuple(case["output_wh"][::-1])
        for rule, divisor, to_frame in (
            ("classic", heatmap_wh, geometry.classic_to_frame),
            ("udp", heatmap_wh - 1, geometry.udp_to_frame),
        ):
            crop_xy = heatmap_xy / divisor * input_wh
            frame_xy = geometry.transform_points(crop_xy, to_frame(center, scale, input_hw))
            np.testing.assert_allclose(frame_xy, case[f"back_{rule}"], atol=2e-2)


def test_crops_of_a_picture_equal_those_of_sapiens(sapiens, golden):
    """uint8 BGR crops of the synthetic picture; within a grey level on OpenCV 5, with which they were made."""
    cv2 = pytest.importorskip("cv2")
    picture = cv2.imread(str(golden / "sapiens" / "synthetic_a.png"))
    compared = [i for i in range(int(sapiens["num_cases"])) if f"crop_{i}" in sapiens]
    assert len(compared) == 5
    for i in compared:
        width, height = (int(side) for side in sapiens[f"input_size_{i}"])
        center, scale = geometry.box_to_center_scale(sapiens[f"bbox_{i}"][None], 1.25, (height, width))
        matrix = geometry.udp_affine(center, scale, (height, width))[0]
        crop = cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_LINEAR)
        off = np.abs(crop.astype(int) - sapiens[f"crop_{i}"])
        assert off.mean() < 0.1 and off.max() <= (1 if cv2.__version__.startswith("5.") else 4)


def test_crops_of_a_picture_equal_those_of_vitpose(golden):
    """Both rules, with and without rotation; pixels to 0.6 grey levels in the mean, keypoints to 0.02 px."""
    cv2 = pytest.importorskip("cv2")
    folder = golden / "vitpose" / "post"
    picture = cv2.imread(str(folder / "image.png"))
    for case in json.loads((folder / "warp_cases.json").read_text()):
        width, height = case["input_wh"]
        affine = geometry.udp_affine if case["use_udp"] else geometry.classic_affine
        center, scale = np.array(case["center"]), 200 * np.array(case["scale"])
        matrix = affine(center, scale, (height, width), case["rotation_deg"])
        crop = cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_LINEAR)
        off = np.abs(crop.astype(int) - cv2.imread(str(folder / case["file"])))
        assert off.mean() <= 0.6
        moved = geometry.transform_points(np.array(case["joints_in"]), matrix)
        np.testing.assert_allclose(moved, case["joints_out"], atol=2e-2)


@pytest.mark.parametrize("affine", [geometry.udp_affine, geometry.classic_affine])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_affines_are_batched_and_invertible(affine, count):
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 500, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 300, (count, 2))], axis=1)
    center, scale = geometry.box_to_center_scale(boxes, 1.25, (256, 192))
    assert center.shape == scale.shape == (count, 2)
    np.testing.assert_allclose(scale[:, 0] / scale[:, 1], 0.75, rtol=1e-5)
    matrix = affine(center, scale, (256, 192), rng.uniform(-80, 80, count))
    assert matrix.shape == (count, 2, 3) and matrix.dtype == np.float32
    points = rng.uniform(0, 500, (count, 7, 2))
    there = geometry.transform_points(points, matrix)
    back = geometry.transform_points(there, geometry.invert_affine(matrix))
    np.testing.assert_allclose(back, points, atol=2e-3)
    for i in range(count):
        np.testing.assert_array_equal(geometry.transform_points(points[i], matrix[i]), there[i])
    assert geometry.udp_to_frame(center, scale, (256, 192)).shape == (count, 2, 3)


def test_unrotated_crop_corners():
    center, scale = np.array([[100.0, 80.0]]), np.array([[60.0, 80.0]])
    edges = np.array([[[70.0, 40.0], [130.0, 120.0]]])
    udp = geometry.transform_points(edges, geometry.udp_affine(center, scale, (256, 192)))
    np.testing.assert_allclose(udp[0], [[0, 0], [191, 255]], atol=1e-4)
    classic = geometry.classic_affine(center, scale, (256, 192))
    np.testing.assert_allclose(geometry.transform_points(edges, classic)[0], [[0, 0], [192, 256]], atol=1e-4)
    np.testing.assert_allclose(
        geometry.invert_affine(classic), geometry.classic_to_frame(center, scale, (256, 192)), atol=1e-5
    )


@pytest.mark.parametrize(
    ("size_hw", "canvas", "new_hw"),
    [
        ((340, 640), 640, (340, 640)),
        ((333, 211), 640, (640, 406)),
        ((400, 90), 320, (320, 72)),
        ((140, 620), 320, (72, 320)),
        ((429, 640), 320, (215, 320)),
        ((300, 3), 320, (320, 3)),
        ((5000, 1), 320, (320, 1)),
    ],
)
def test_letterbox_sizes_of_rtmdet(size_hw, canvas, new_hw):
    """All but the last are cases of the original's own test pipeline (mmdet 3.3.0)."""
    found, scale_xy = geometry.letterbox_geometry(size_hw, (canvas, canvas))
    assert found == new_hw
    assert scale_xy == (new_hw[1] / size_hw[1], new_hw[0] / size_hw[0])


def test_letterbox_refuses_a_canvas_the_picture_overflows():
    with pytest.raises(ConfigError, match="square canvas"):
        geometry.letterbox_geometry((400, 300), (320, 640))


def test_flips_undo_themselves_and_keep_corners_ordered():
    points = np.array([[[3.0, 4.0], [10.0, 2.0], [0.0, 0.0]]])
    once = geometry.flip_points(points, 80, (0, 2, 1))
    np.testing.assert_array_equal(once[0], [[76, 4], [79, 0], [69, 2]])
    np.testing.assert_array_equal(geometry.flip_points(once, 80, (0, 2, 1)), points)
    np.testing.assert_array_equal(geometry.flip_boxes(np.array([[10, 8, 50, 55]]), 80), [[29, 8, 69, 55]])


def test_iou_of_known_boxes():
    a = np.array([[0, 0, 10, 10], [5, 5, 5, 5]])
    b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [5, 5, 5, 5]])
    np.testing.assert_allclose(geometry.iou(a, b), [[1, 1 / 3, 0, 0], [0, 0, 0, 0]], atol=1e-6)
    assert geometry.iou(a, np.zeros((0, 4))).shape == (2, 0)


def test_nms_threshold_is_strict_and_sizes_are_plain():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5], [40, 40, 40, 40], [40, 40, 40, 40]], np.float32)
    scores = np.array([0.5, 0.9, 0.3, 0.4], np.float32)
    assert geometry.nms(boxes, scores, 0.5).tolist() == [1, 0, 3, 2]  # IoU exactly 0.5 stays; empty pairs stay
    assert geometry.nms(boxes, scores, 0.49).tolist() == [1, 3, 2]
    assert geometry.nms_inclusive(boxes, scores, 0.5).tolist() == [1, 3]  # 66 / 121 > 0.5; a point counts as one pixel
    for suppress in (geometry.nms, geometry.nms_inclusive):
        nobody = suppress(np.zeros((0, 4)), np.zeros(0), 0.5)
        assert nobody.shape == (0,) and nobody.dtype == np.int64


def test_nms_of_the_original_operators(golden):
    """mmcv's compiled operator and the demo routine, indices exact."""
    with np.load(golden / "rtmdet" / "nms_cases.npz") as cases:
        checked = 0
        for key in cases.files:
            name, _, rest = key.partition(".")
            if not rest.startswith("keep_") or name == "multi":
                continue
            suppress = geometry.nms_inclusive if "plus1" in rest else geometry.nms
            kept = suppress(cases[f"{name}.boxes"], cases[f"{name}.scores"], float(rest.rpartition("_")[2]))
            np.testing.assert_array_equal(kept, cases[key], err_msg=key)
            checked += 1
    assert checked == 56


def test_nms_of_a_thousand_boxes_is_quick():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 2000, (1000, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, 60, (1000, 2))], axis=1).astype(np.float32)
    start = time.perf_counter()
    assert len(geometry.nms(boxes, rng.random(1000), 0.6)) > 900
    assert time.perf_counter() - start < 2  # 0.06 s alone; loose, because the machine may be busy


def _oks_cases(golden):
    sigmas_of = {
        "coco": "coco17",
        "default(coco)": "coco17",
        "aic": "aic14",
        "crowdpose": "crowdpose14",
        "mpii": "mpii16",
    }
    for case in json.loads((golden / "vitpose" / "post" / "oks_nms.json").read_text()):
        keypoints = np.array([person["keypoints"] for person in case["people"]])
        scores = np.array([person["score"] for person in case["people"]])
        areas = np.array([person["area"] for person in case["people"]])
        yield case, keypoints, scores, areas, load_skeleton(sigmas_of[case["sigmas"]]).oks_sigmas


def test_oks_and_both_suppressions_of_vitpose(golden):
    for case, keypoints, scores, areas, sigmas in _oks_cases(golden):
        xy, visible = keypoints[..., :2], keypoints[..., 2]
        found = geometry.oks(xy[0], xy, areas[0], areas, sigmas, visible, case["vis_thr"])
        np.testing.assert_allclose(found, case["oks_of_first_vs_all"], atol=1e-5)
        settings = {"keypoint_scores": visible, "vis_thr": case["vis_thr"]}
        kept = geometry.oks_nms(xy, scores, areas, sigmas, case["thr"], **settings)
        assert kept.tolist() == case["oks_nms_keep"]
        kept = geometry.oks_nms(xy, scores, areas, sigmas, case["thr"], soft=True, **settings)
        assert kept.tolist() == case["soft_oks_nms_keep"]


def test_oks_of_nobody():
    sigmas = load_skeleton("coco17").oks_sigmas
    assert geometry.oks(np.zeros((17, 2)), np.zeros((0, 17, 2)), 1.0, np.zeros(0), sigmas).shape == (0,)
    assert geometry.oks_nms(np.zeros((0, 17, 2)), np.zeros(0), np.zeros(0), sigmas).shape == (0,)
    one = np.zeros((1, 17, 2))
    hidden = geometry.oks(one[0], one, 9.0, np.array([9.0]), sigmas, np.zeros((1, 17)), 0.2)
    np.testing.assert_array_equal(hidden, [0.0])
