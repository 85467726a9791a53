"""From crops to keypoints in the frame as the original's test loop gives them, by the rules each spec names."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lite import geometry
from lite.artifact import ArtifactSpec
from lite.checkpoints import load_network
from lite.codecs import build_codec
from lite.codecs.flip import FlipAverage
from lite.models.vitpose import pose_spec
from lite.models.vitpose_datasets import DATA_SETS
from lite.skeletons import load_skeleton

MAPS, POINTS_PX, SCORES = 2e-5, 2e-2, 1e-6  # origin: README.md beside the arrays


def read(spec: ArtifactSpec, heatmaps: torch.Tensor, center: np.ndarray, scale: np.ndarray) -> tuple:
    """Keypoints in the frame and scores, by the spec alone."""
    keypoints, scores = build_codec(spec.codec).decode(heatmaps)
    rule = geometry.classic_to_frame if spec.crop.affine == "classic" else geometry.udp_to_frame
    return geometry.transform_points(keypoints.numpy(), rule(center, 200 * scale, spec.input_hw)), scores.numpy()


def follows_the_original(folder: Path) -> None:
    network = load_network(folder / "checkpoint.pth")
    settings = json.loads((folder / "config.json").read_text())
    spec = network.spec
    if settings["test_cfg"]["shift_heatmap"]:  # COCO's keypoints by the rules of AIC, animals and CrowdPose
        spec = pose_spec("x", spec.input_hw, 17, "apt36k17")
    assert (spec.crop.affine == "udp") == settings["test_cfg"].get("use_udp", False)
    order = load_skeleton(network.spec.skeleton).flip_indices
    assert sorted(map(list, settings["flip_pairs"])) == [[i, j] for i, j in enumerate(order) if i < j]
    average = FlipAverage(order, shift=spec.crop.affine == "classic")  # as a flip test is assembled
    with np.load(folder / "io.npz") as arrays, torch.inference_mode():
        x = torch.from_numpy(arrays["input"])
        heatmaps, of_mirrored = network(x)["heatmaps"], network(x.flip(3))["heatmaps"]
        averaged = average(heatmaps, of_mirrored)
        torch.testing.assert_close(heatmaps, torch.from_numpy(arrays["heatmap"]), atol=MAPS, rtol=0)
        expected = torch.from_numpy(arrays["heatmap_flip_avg"])
        torch.testing.assert_close(averaged, expected, atol=MAPS, rtol=0)
        # Decoded from the stored maps: on random, flat ones a last bit may move a point by pixels.
        for name, maps in (("preds", expected), ("preds_noflip", torch.from_numpy(arrays["heatmap"]))):
            points, scores = read(spec, maps, arrays["center"], arrays["scale"])
            # For a map that is nowhere above 0 the original reads its neighbour.
            stable = arrays[f"{name}_stable"] & (arrays[name][..., 2] > 0)
            assert stable.mean() > 0.7
            np.testing.assert_allclose(points[stable], arrays[name][..., :2][stable], atol=POINTS_PX)
            np.testing.assert_allclose(scores, arrays[name][..., 2], atol=SCORES)


@pytest.mark.parametrize("case", ["classic_64x48", "simple_96x64"])
def test_crops_to_the_frame(golden: Path, case: str) -> None:
    follows_the_original(golden / "vitpose" / "networks" / case)


@pytest.mark.parametrize("case", ["classic_96x64", "simple_64x48"])
def test_crops_to_the_frame_with_the_reference(shared: Path, case: str) -> None:
    follows_the_original(shared / "reference/vitpose/golden/models" / f"vitpose_tiny_{case}")


@pytest.mark.parametrize("case", ["classic_64x48", "simple_64x48"])
def test_keypoints_of_mmpose_1x(shared: Path, case: str) -> None:
    """Px of the input; its blur takes the border as 0."""
    folder = shared / "reference/vitpose/golden/mmpose1x" / case
    spec = load_network(folder / "checkpoint.pth").spec
    with np.load(folder / "io.npz") as arrays, torch.inference_mode():
        points, scores = build_codec(spec.codec).decode(torch.from_numpy(arrays["heatmap"]))
        # A point many crops away comes of a flat map, whose curvature is a matter of rounding.
        near = np.abs(arrays["decoded_xy"]).max(axis=-1) < 5 * max(spec.input_hw)
        assert near.mean() > 0.9
        np.testing.assert_allclose(points[near], arrays["decoded_xy"][near], atol=POINTS_PX)
        np.testing.assert_allclose(scores, arrays["decoded_score"], atol=SCORES)


def test_mpii_alone_gets_squares_and_not_of_mmpose_1x() -> None:
    """The original gives both sides of an MPII person one scale; mmpose 1.x fixes the aspect of every data set."""
    square = {name: pose_spec("x", (64, 48), row.num_keypoints, name).crop.square for name, row in DATA_SETS.items()}
    assert [name for name, yes in square.items() if yes] == ["mpii16"]
    assert not pose_spec("x", (64, 48), 16, "mpii16", border="zero").crop.square
    assert not pose_spec("x", (64, 48), 16, None).crop.square
