"""Parity with the original classic decoders and targets (tests/golden), edge cases, round trips and export."""

import json

import numpy as np
import pytest
import torch

from lite import geometry
from lite.codecs import build_codec
from lite.codecs.msra_heatmap import MSRAHeatmap
from lite.errors import ConfigError

INPUT_HW, MAP_HW = (256, 192), (64, 48)


def codec(**changes) -> MSRAHeatmap:
    return MSRAHeatmap(**{"input_hw": INPUT_HW, "heatmap_hw": MAP_HW, "sigma": 2.0, **changes})


def people(count: int, seed: int = 0, **changes) -> tuple[torch.Tensor, torch.Tensor]:
    """Keypoints inside the crop and the maps a perfect network would give."""
    rng = torch.Generator().manual_seed(seed)
    keypoints = torch.rand(count, 17, 2, generator=rng) * torch.tensor([150.0, 210.0]) + 20
    return keypoints, codec(**changes).encode(keypoints, torch.ones(count, 17))[0]


@pytest.mark.parametrize(
    ("variant", "settings"),
    [
        ("default", {}),
        ("none", {"refine": "none"}),
        ("unbiased_k11", {"refine": "unbiased", "blur_kernel": 11}),
        ("unbiased_k17", {"refine": "unbiased", "blur_kernel": 17}),
    ],
)
def test_decode_of_vitpose(golden, variant, settings):
    """Every map counts, the empty and the negative one too; tolerance 2e-3 px of the frame."""
    with np.load(golden / "vitpose" / "post" / "heatmaps_to_keypoints.npz") as arrays:
        keypoints, scores = codec(**settings).decode(torch.from_numpy(arrays["heatmaps"]))
        to_frame = geometry.classic_to_frame(arrays["center"], 200 * arrays["scale"], INPUT_HW)
        in_frame = geometry.transform_points(keypoints.numpy(), to_frame)
        np.testing.assert_allclose(in_frame, arrays[f"preds_{variant}"], atol=2e-3)
        np.testing.assert_array_equal(scores, arrays[f"maxvals_{variant}"][..., 0])


@pytest.mark.parametrize("case", ["c0_msra", "c0_msra_unbiased", "c1_msra"])
def test_encode_of_vitpose(golden, case):
    tag = case[:2]
    sizes = json.loads((golden / "vitpose" / "post" / "targets.json").read_text())[tag]
    with np.load(golden / "vitpose" / "post" / "targets.npz") as arrays:
        made = MSRAHeatmap(
            input_hw=sizes["input_wh"][::-1],
            heatmap_hw=sizes["heatmap_wh"][::-1],
            sigma=2,
            unbiased_target=case.endswith("unbiased"),
        )
        heatmaps, weights = made.encode(
            torch.from_numpy(arrays[f"{tag}_joints"][:, :2]), torch.from_numpy(arrays[f"{tag}_visible"][:, 0])
        )
        np.testing.assert_allclose(heatmaps, arrays[f"{case}_target"], atol=1e-5)
        np.testing.assert_array_equal(weights, arrays[f"{case}_weight"][:, 0])


@pytest.mark.parametrize("count", [0, 1, 9])
@pytest.mark.parametrize(
    ("settings", "tolerance_px"),
    [
        ({}, 2.01),  # the target sits on the nearest cell of 4 px
        ({"refine": "none", "unbiased_target": True}, 2.01),
        ({"refine": "default", "unbiased_target": True}, 1.01),
        ({"refine": "unbiased", "unbiased_target": True}, 0.01),
    ],
)
def test_decode_undoes_encode(count, settings, tolerance_px):
    keypoints, heatmaps = people(count, **settings)
    found, scores = codec(**settings).decode(heatmaps)
    assert found.shape == (count, 17, 2) and scores.shape == (count, 17)
    torch.testing.assert_close(found, keypoints, atol=tolerance_px, rtol=0)


@pytest.mark.parametrize("refine", ["default", "unbiased", "none"])
def test_keypoints_and_scores_are_finite_whatever_the_maps(refine):
    maps = torch.zeros(1, 8, *MAP_HW)
    maps[0, 1], maps[0, 2], maps[0, 3], maps[0, 4] = -1.0, float("nan"), float("inf"), float("-inf")
    maps[0, 5] = 0.4
    maps[0, 6] = float("-inf")
    maps[0, 6, 30, 20] = 0.5
    maps[0, 7] = -3e38
    maps[0, 7, 30, 20] = 1e-38
    keypoints, scores = codec(refine=refine).decode(maps)
    assert torch.isfinite(keypoints).all()
    assert scores[0].tolist() == pytest.approx([0, -1, 0, 0, 0, 0.4, 0.5, 0])
    assert torch.all(keypoints[0, :5] == -4.0)  # cell (-1, -1)
    assert torch.all((keypoints[0, 6:] - torch.tensor([80.0, 120.0])).abs() <= 4)


@pytest.mark.parametrize("refine", ["default", "unbiased", "none"])
def test_exported_decode_equals_eager_for_any_batch(refine):
    made = codec(refine=refine)
    program = torch.export.export(
        made, (people(2)[1],), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},)
    ).module()
    for count in (1, 2, 7):
        heatmaps = people(count, seed=count)[1] + 0.01 * torch.rand(count, 17, *MAP_HW)
        for found, wanted in zip(program(heatmaps), made.decode(heatmaps)):
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_settings():
    with pytest.raises(ConfigError, match="refine: expected default, unbiased or none, found 'dark'"):
        codec(refine="dark")
    made = build_codec({"name": "msra_heatmap", "input_hw": [256, 192], "heatmap_hw": [64, 48], "sigma": 2})
    assert torch.equal(made.decode(people(1)[1])[0], codec().decode(people(1)[1])[0])
