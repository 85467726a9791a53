"""The flip test equals the original's arrays (tests/golden) and undoes a mirrored network."""

import json

import numpy as np
import pytest
import torch

from lite.codecs.flip import FlipAverage, flip_average, flip_back
from lite.skeletons import load_skeleton


@pytest.mark.parametrize(("name", "skeleton"), [("coco", "coco17"), ("coco_wholebody", "wholebody133")])
@pytest.mark.parametrize("shift", [False, True])
def test_average_of_sapiens(golden, name, skeleton, shift):
    flip_indices = load_skeleton(skeleton).flip_indices
    with np.load(golden / "sapiens" / "flip_test.npz") as arrays:
        assert tuple(arrays[f"{name}_flip_indices"]) == flip_indices
        heatmaps, mirrored = (
            torch.from_numpy(arrays[f"{name}_{kind}"]) for kind in ("heatmaps", "heatmaps_of_flipped_image")
        )
        merged = flip_average(heatmaps, mirrored, flip_indices, shift)
        np.testing.assert_allclose(merged, arrays[f"{name}_merged_shift" if shift else f"{name}_merged"], atol=1e-6)


@pytest.mark.parametrize("shift", [False, True])
def test_flip_back_of_vitpose(golden, shift):
    settings = json.loads((golden / "vitpose" / "post" / "heatmaps_to_keypoints.json").read_text())
    order = list(range(settings["K"]))
    for left, right in settings["flip_pairs"]:
        order[left], order[right] = right, left
    with np.load(golden / "vitpose" / "post" / "heatmaps_to_keypoints.npz") as arrays:
        back = flip_back(torch.from_numpy(arrays["flip_in"]), order, shift)
        np.testing.assert_array_equal(back, arrays["flip_back_shift" if shift else "flip_back"])


def test_a_perfectly_symmetric_network_is_left_as_it_is():
    flip_indices = load_skeleton("coco17").flip_indices
    heatmaps = torch.rand(3, 17, 8, 6)
    mirrored = heatmaps[:, list(flip_indices)].flip(3)
    torch.testing.assert_close(flip_average(heatmaps, mirrored, flip_indices), heatmaps)
    assert flip_average(heatmaps[:0], mirrored[:0], flip_indices).shape == (0, 17, 8, 6)


@pytest.mark.parametrize("shift", [False, True])
def test_the_module_averages_the_same_way(shift):
    flip_indices = load_skeleton("coco17").flip_indices
    heatmaps, mirrored = torch.rand(2, 3, 17, 8, 6)
    module = FlipAverage(flip_indices, shift)
    assert torch.equal(module(heatmaps, mirrored), flip_average(heatmaps, mirrored, flip_indices, shift))
    assert module.state_dict() == {}, "nothing of it belongs into a weights file"
