"""Frames to inputs and raw outputs to people, against arrays of the original, alone and with the network between."""

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from lite.artifact import ArtifactSpec, CropRule, FrameRule
from lite.assemble import to_records
from lite.bottom_up import FittedFrames, assemble_people, fit_frames, fit_short_side, in_frame_order
from lite.codecs.tag_grouping import MergeMirrored, TagGrouping
from lite.errors import ConfigError
from lite.geometry import invert_affine, transform_points
from lite.graph import PixelGraph
from lite.group import Grouping
from lite.models.higher_hrnet import HigherHRNet
from lite.skeletons import load_skeleton
from lite.structures import Frame

NAMES = ("keypoints", "scores", "tags", "heatmaps", "tag_maps")
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def spec(short_side: int, **others: object) -> ArtifactSpec:
    return ArtifactSpec(
        task="pose-bottom-up",
        model="higherhrnet-custom",
        input_hw=(short_side, short_side),
        mean=MEAN,
        std=STD,
        frame=FrameRule(kind="short-side", multiple=64),
        skeleton="coco17",
        **others,
    )


def frame(height: int, width: int, level: int = 0) -> Frame:
    return Frame(pixels=np.full((height, width, 3), level, np.uint8), source=f"{height}x{width}")


# --- frames to inputs


def test_input_sizes_and_places_are_those_of_the_original(golden: Path) -> None:
    with np.load(golden / "higherhrnet/fit.npz") as stored:
        table, points_net, points_image = stored["size_table"], stored["points_net"], stored["points_image"]
        image, short_side, resized = stored["image"], int(stored["input_size"]), stored["resized"]
        matrix = stored["matrix"]
    assert len(table) == 44
    for h, w, side, net_h, net_w, cx, cy, scale_w, scale_h in table.tolist():
        input_hw, to_input = fit_short_side((int(h), int(w)), int(side), 64)
        assert input_hw == (net_h, net_w)
        middle = transform_points(np.array([[cx, cy]]), to_input)
        np.testing.assert_allclose(middle, [[net_w / 2, net_h / 2]], atol=1e-3)
        np.testing.assert_allclose([to_input[0, 0], to_input[1, 1]], [net_w / scale_w, net_h / scale_h], rtol=1e-9)
    (fitted,) = fit_frames([Frame(pixels=image, source="a")], spec(short_side))
    assert fitted.pixels.shape[1:] == resized.shape
    difference = np.abs(fitted.pixels[0].astype(int) - resized)
    assert difference.max() <= 4 and difference.mean() < 0.3
    np.testing.assert_allclose(transform_points(points_net, fitted.to_frame[0]), points_image, atol=2e-3)
    np.testing.assert_allclose(invert_affine(fitted.to_frame[0]), matrix, atol=2e-4)


def test_frames_of_one_shape_share_an_input() -> None:
    assert fit_frames([], spec(64)) == []
    frames = [frame(60, 80, 10), frame(100, 50, 20), frame(120, 160, 30), frame(60, 80, 40)]
    groups = fit_frames(frames, spec(64))
    assert [(g.pixels.shape[1:3], g.frame_of.tolist()) for g in groups] == [((64, 128), [0, 2, 3]), ((128, 64), [1])]
    assert groups[0].pixels[:, 32, 64, 0].tolist() == [10, 30, 40]
    assert not groups[0].pixels[:, :, 0].any()  # filled up with black
    np.testing.assert_allclose(transform_points(np.array([[64, 32]]), groups[0].to_frame[1]), [[80, 60]], atol=1e-4)


@pytest.mark.parametrize(
    ("size_hw", "input_hw"),
    [((100, 400), (512, 2048)), ((100, 401), (512, 2048)), ((400, 100), (2048, 512)), ((100, 10000), (512, 2048)),
     ((1, 3000), (512, 2048)), ((1, 1), (512, 512))],
)  # fmt: skip
def test_a_panorama_stays_small(size_hw: tuple[int, int], input_hw: tuple[int, int]) -> None:
    found, to_input = fit_short_side(size_hw, 512, 64)
    assert found == input_hw
    corners = transform_points(np.array([[0, 0], size_hw[::-1]]), to_input)
    assert corners.min() >= -0.6 * to_input[0, 0] - 1e-3  # odd sizes lie half a pixel off the middle
    assert (corners[1] <= np.array(input_hw[::-1]) + 0.6 * to_input[0, 0]).all()
    assert to_input[0, 0] == to_input[1, 1]


def test_a_frame_longer_than_opencv_takes() -> None:
    (fitted,) = fit_frames([frame(20, 33000, 90)], spec(64))
    assert fitted.pixels.shape == (1, 64, 256, 3)
    assert fitted.pixels[0, 32, 128, 0] == 90 and not fitted.pixels[0, 0].any()


def test_other_rules_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected the frame rule short-side, found none"):
        fit_frames(
            [frame(8, 8)], ArtifactSpec(task="pose", model="a", input_hw=(8, 8), mean=MEAN, std=STD, crop=CropRule())
        )


# --- raw outputs to people


def raw_outputs(stored: np.lib.npyio.NpzFile, case: str) -> tuple[dict[str, np.ndarray], FittedFrames]:
    """What the pixel graph would give for the stored maps, and the frame they are of."""
    heat_4, heat_2 = (torch.from_numpy(stored[f"{case}/heat{n}_q"].astype(np.float32) / 16384)[None] for n in (4, 2))
    tags = torch.from_numpy(np.moveaxis(stored[f"{case}/tags4_q"].astype(np.float32) / 128, 3, 1).copy())[None]
    outputs = TagGrouping().decode(heat_4, heat_2, tags)
    size_hw = tuple(stored[f"{case}/image_hw"].tolist())
    (fitted,) = fit_frames([frame(*size_hw)], spec(int(stored[f"{case}/input_size"])))
    assert fitted.pixels.shape[1:3] == tuple(stored[f"{case}/net_hw"].tolist())
    return {name: value.numpy() for name, value in zip(NAMES, outputs, strict=True)}, fitted


@pytest.mark.parametrize("case", ["landscape_noflip", "square_flip_crowd"])
def test_people_are_those_of_the_original(golden: Path, case: str) -> None:
    with np.load(golden / "higherhrnet/postprocess.npz") as stored:
        poses = assemble_people(*raw_outputs(stored, case), Grouping())
        np.testing.assert_allclose(poses.keypoints, stored[f"{case}/kpts_coords"], atol=1e-2)
        np.testing.assert_allclose(poses.keypoint_scores, stored[f"{case}/kpts_scores"], atol=1e-4)
        np.testing.assert_allclose(poses.scores, stored[f"{case}/obj_scores"], atol=1e-4)
    seen = poses.keypoint_scores > 0
    for points, mine, box in zip(poses.keypoints, seen, poses.boxes):
        assert box.tolist() == [*points[mine].min(axis=0), *points[mine].max(axis=0)]
    assert poses.frame_of.tolist() == [0] * len(poses)


def test_all_stored_cases(shared: Path) -> None:
    with np.load(shared / "reference/higherhrnet/golden/postprocess.npz") as stored:
        for case in ("landscape_noflip", "portrait_flip", "square_flip_crowd"):
            poses = assemble_people(*raw_outputs(stored, case), Grouping())
            np.testing.assert_allclose(poses.keypoints, stored[f"{case}/kpts_coords"], atol=1e-2)
            np.testing.assert_allclose(poses.keypoint_scores, stored[f"{case}/kpts_scores"], atol=1e-4)


def test_nobody_is_no_person(golden: Path) -> None:
    with np.load(golden / "higherhrnet/postprocess.npz") as stored:
        assert len(stored["nobody/obj_scores"]) == 1  # the original invents one
        poses = assemble_people(*raw_outputs(stored, "nobody"), Grouping())
    assert len(poses) == 0 and poses.keypoints.shape == (0, 17, 2)
    (record,) = to_records([frame(200, 360)], poses)
    assert record.people == [] and record.error is None


def test_many_frames_go_back_to_their_places(golden: Path) -> None:
    with np.load(golden / "higherhrnet/postprocess.npz") as stored:
        crowd, _ = raw_outputs(stored, "square_flip_crowd")
        group = fit_frames([frame(300, 300), frame(200, 300), frame(600, 600)], spec(256))[0]
        raw = {name: np.concatenate([value, value]) for name, value in crowd.items()}
        three = assemble_people(
            {name: value[[0]] for name, value in raw.items()}, fit_frames([frame(256, 256)], spec(256))[0], Grouping()
        )
    assert group.frame_of.tolist() == [0, 2]
    poses = assemble_people(raw, group, Grouping())
    assert poses.frame_of.tolist() == [0] * 6 + [2] * 6
    np.testing.assert_allclose(poses.keypoints[6:], poses.keypoints[:6] * 2, atol=1e-3)
    joined = in_frame_order([poses, three], 17)
    assert joined.frame_of.tolist() == [0] * 12 + [2] * 6 and joined.scores.dtype == np.float32
    assert len(in_frame_order([], 17)) == 0


def test_people_below_a_score_are_left_out(golden: Path) -> None:
    with np.load(golden / "higherhrnet/postprocess.npz") as stored:
        raw, fitted = raw_outputs(stored, "square_flip_crowd")
        scores = stored["square_flip_crowd/obj_scores"]
    thr = float(np.median(scores))
    assert len(assemble_people(raw, fitted, Grouping(person_thr=thr))) == (scores >= thr).sum() < len(scores)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_that_are_not_finite_become_an_error(golden: Path, name: str) -> None:
    with np.load(golden / "higherhrnet/postprocess.npz") as stored:
        raw, fitted = raw_outputs(stored, "landscape_noflip")
    raw[name][0, 3, 0] = np.nan
    (record,) = to_records([frame(480, 640)], assemble_people(raw, fitted, Grouping()))
    assert record.people == [] and "not finite" in record.error


def test_refining_needs_the_maps(golden: Path) -> None:
    with np.load(golden / "higherhrnet/postprocess.npz") as stored:
        raw, fitted = raw_outputs(stored, "landscape_noflip")
    few = {name: raw[name] for name in NAMES[:3]}
    with pytest.raises(ConfigError, match="refine: expected outputs heatmaps and tag_maps"):
        assemble_people(few, fitted, Grouping())
    assert len(assemble_people(few, fitted, Grouping(refine=False))) == 3


# --- with the network between


def made_up_weights(network: torch.nn.Module) -> None:
    """The weights the stored maps were computed with; see the golden folder of the network."""
    values = {}
    for key, old in network.state_dict().items():
        seed = zlib.crc32(f"hpe-lite-golden:{key}".encode())
        u = np.random.RandomState(seed).random_sample(tuple(old.shape))
        if key.endswith("num_batches_tracked"):
            values[key] = torch.tensor(1 + seed % 1000)
            continue
        if old.ndim >= 2:
            u = (2 * u - 1) * np.sqrt(3 / np.prod(old.shape[1:]))
        elif key.endswith("running_var"):
            u = 0.75 + 0.5 * u
        elif key.endswith(("running_mean", ".bias")):
            u = 0.2 * u - 0.1
        else:
            u = 0.5 + 0.5 * u
        values[key] = torch.from_numpy(np.asarray(u, np.float32))
    network.load_state_dict(values)


def test_picture_to_people_with_a_small_network(golden: Path) -> None:
    network = HigherHRNet(8, 17).eval()
    made_up_weights(network)
    merge = MergeMirrored(load_skeleton("coco17").flip_indices)
    graph = PixelGraph(network, TagGrouping(), spec(64, flip_test=True), merge).eval()
    with np.load(golden / "higherhrnet/flip_aggregation.npz") as stored, torch.inference_mode():
        (fitted,) = fit_frames([Frame(pixels=stored["image"], source="a")], graph.spec)
        raw = graph.raw(torch.from_numpy(fitted.pixels))
        for name, wanted in (("heatmaps_4", "agg_heatmaps_4"), ("heatmaps_2", "agg_heatmaps_2")):
            np.testing.assert_allclose(raw[name].numpy(), stored[wanted], atol=2e-3)
        tags = np.stack([stored["agg_tags_0"], stored["agg_tags_1"]], axis=2)
        np.testing.assert_allclose(raw["tags"].numpy(), tags, atol=2e-3)
        outputs = {name: value.numpy() for name, value in graph(torch.from_numpy(fitted.pixels)).items()}
        poses = assemble_people(outputs, fitted, Grouping(max_people=5))
    # Made-up weights see people everywhere; what counts is that all of it comes back into the picture.
    assert 1 <= len(poses) <= 5
    seen = poses.keypoints[poses.keypoint_scores > 0]
    assert (seen[:, 0] > -24.1).all() and (seen[:, 0] < 104.1).all()  # 128 px of input, centred on 80 px of picture
    assert (seen[:, 1] > -0.1).all() and (seen[:, 1] < 64.1).all()
