"""Parity with the two original UDP decoders (tests/golden), edge cases, round trips and export."""

import json

import numpy as np
import pytest
import torch

from lite import geometry
from lite.codecs import build_codec
from lite.codecs.peaks import BlurredMaximum, blurred_window, find_peaks, gaussian_kernel
from lite.codecs.udp_heatmap import UDPHeatmap
from lite.errors import ConfigError, ModelError

INPUT_HW, MAP_HW = (256, 192), (64, 48)


def codec(**changes) -> UDPHeatmap:
    return UDPHeatmap(**{"input_hw": INPUT_HW, "heatmap_hw": MAP_HW, "sigma": 2.0, **changes})


def people(count: int, num_keypoints: int = 17, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Keypoints inside the crop and the maps a perfect network would give, with a little noise."""
    rng = torch.Generator().manual_seed(seed)
    keypoints = torch.rand(count, num_keypoints, 2, generator=rng) * torch.tensor([150.0, 210.0]) + 20
    heatmaps, _ = codec().encode(keypoints, torch.ones(count, num_keypoints))
    return keypoints, heatmaps + 0.01 * torch.rand(heatmaps.shape, generator=rng)


@pytest.fixture(scope="module")
def sapiens(golden):
    with np.load(golden / "sapiens" / "udp_codec.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("tag", ["a", "b"])
def test_decode_of_sapiens(sapiens, tag):
    """Training codec and lite function of the original, which agree bit for bit; tolerance 2e-3 px where score > 0."""
    made = UDPHeatmap(
        input_hw=tuple(sapiens[f"input_size_{tag}"][::-1].tolist()),
        heatmap_hw=tuple(sapiens[f"heatmap_size_{tag}"][::-1].tolist()),
        sigma=6,
        blur_kernel=11,
    )
    keypoints, scores = made.decode(torch.from_numpy(sapiens[f"heatmaps_{tag}"])[None])
    np.testing.assert_array_equal(scores.numpy(), sapiens[f"scores_{tag}"])
    defined = sapiens[f"scores_{tag}"] > 0
    assert defined.sum() == {"a": 21, "b": 4}[tag]
    np.testing.assert_allclose(keypoints.numpy()[defined], sapiens[f"keypoints_{tag}"][defined], atol=5e-4)
    nothing = torch.tensor([-192 / 47, -256 / 63]).expand(int((~defined).sum()), 2)
    torch.testing.assert_close(keypoints[torch.from_numpy(~defined)], nothing)


@pytest.mark.parametrize("tag", ["a", "b", "c"])
def test_encode_of_sapiens(sapiens, tag):
    made = UDPHeatmap(
        input_hw=tuple(sapiens[f"enc_input_size_{tag}"][::-1].tolist()),
        heatmap_hw=tuple(sapiens[f"enc_heatmap_size_{tag}"][::-1].tolist()),
        sigma=float(sapiens[f"enc_sigma_{tag}"]),
    )
    keypoints, visible = (torch.from_numpy(sapiens[f"enc_{name}_{tag}"]) for name in ("keypoints", "visible"))
    heatmaps, weights = made.encode(keypoints, visible)
    np.testing.assert_allclose(heatmaps[0], sapiens[f"enc_heatmaps_{tag}"], atol=2e-5)
    np.testing.assert_array_equal(weights, sapiens[f"enc_weights_{tag}"])
    alone, weights_alone = made.encode(keypoints[0], visible[0])
    assert torch.equal(alone, heatmaps[0]) and torch.equal(weights_alone, weights[0])


@pytest.mark.parametrize("case", ["c0_udp", "c0_udp_sigma3", "c1_udp"])
def test_encode_of_vitpose(golden, case):
    tag = case[:2]
    sizes = json.loads((golden / "vitpose" / "post" / "targets.json").read_text())[tag]
    with np.load(golden / "vitpose" / "post" / "targets.npz") as arrays:
        made = UDPHeatmap(
            input_hw=sizes["input_wh"][::-1],
            heatmap_hw=sizes["heatmap_wh"][::-1],
            sigma=3 if case.endswith("sigma3") else 2,
        )
        heatmaps, weights = made.encode(
            torch.from_numpy(arrays[f"{tag}_joints"][:, :2]), torch.from_numpy(arrays[f"{tag}_visible"][:, 0])
        )
        np.testing.assert_allclose(heatmaps, arrays[f"{case}_target"], atol=1e-5)
        np.testing.assert_array_equal(weights, arrays[f"{case}_weight"][:, 0])


@pytest.mark.parametrize("blur_kernel", [3, 11, 17])
def test_decode_of_vitpose_with_reflected_border(golden, blur_kernel):
    settings = json.loads((golden / "vitpose" / "post" / "heatmaps_to_keypoints.json").read_text())
    variant = f"udp_k{blur_kernel}"
    with np.load(golden / "vitpose" / "post" / "heatmaps_to_keypoints.npz") as arrays:
        keypoints, scores = codec(blur_kernel=blur_kernel, border="reflect").decode(
            torch.from_numpy(arrays["heatmaps"])
        )
        to_frame = geometry.udp_to_frame(arrays["center"], 200 * arrays["scale"], INPUT_HW)
        in_frame = geometry.transform_points(keypoints.numpy(), to_frame)
        compared = np.ones(scores.shape, bool)
        for instance, keypoint in settings["ignore_xy"][variant]:
            compared[instance, keypoint] = False
        np.testing.assert_allclose(in_frame[compared], arrays[f"preds_{variant}"][compared], atol=2e-3)
        np.testing.assert_array_equal(scores, arrays[f"maxvals_{variant}"][..., 0])


@pytest.mark.parametrize("border", ["zero", "reflect"])
@pytest.mark.parametrize("count", [0, 1, 9])
def test_decode_undoes_encode(border, count):
    keypoints, _ = people(count)
    made = codec(border=border)
    heatmaps, weights = made.encode(keypoints, torch.ones(count, 17))
    found, scores = made.decode(heatmaps)
    assert found.shape == (count, 17, 2) and scores.shape == weights.shape == (count, 17)
    # decode multiplies by the input size, encode divides by the size less one (see the class). The encoded square ends
    # at three sigma, which pulls the step a little.
    torch.testing.assert_close(found * torch.tensor([191 / 192, 255 / 256]), keypoints, atol=0.05, rtol=0)
    assert torch.all(scores > 0.9)


def test_a_box_returns_to_itself_through_crop_encode_decode_and_frame():
    center, scale = geometry.box_to_center_scale(np.array([[50.0, 40.0, 170.0, 300.0]]), 1.25, INPUT_HW)
    in_frame = np.array([[[60.0, 50.0], [110.0, 170.0], [160.0, 290.0]]])
    in_crop = geometry.transform_points(in_frame, geometry.udp_affine(center, scale, INPUT_HW))
    heatmaps, _ = codec().encode(torch.from_numpy(in_crop), torch.ones(1, 3))
    decoded, _ = codec().decode(heatmaps)
    back = geometry.transform_points(decoded.numpy(), geometry.udp_to_frame(center, scale, INPUT_HW))
    np.testing.assert_allclose(back, in_frame, atol=0.05)


def test_decode_of_a_sapiens_network_with_random_weights(golden):
    """Flip-tested maps and the original's keypoints in the frame: spikes on ground that is mostly below zero."""
    with np.load(golden / "sapiens" / "pose_decode.npz") as arrays:
        made = UDPHeatmap(input_hw=(64, 48), heatmap_hw=(16, 12), sigma=6)
        keypoints, scores = made.decode(torch.from_numpy(arrays["heatmaps"]))
        to_frame = geometry.udp_to_frame(arrays["center"], arrays["scale"], (64, 48))
        in_frame = geometry.transform_points(keypoints.numpy(), to_frame)
        np.testing.assert_allclose(in_frame, arrays["keypoints"], atol=3e-3)  # a crop px is 3 px of this frame
        np.testing.assert_allclose(scores, arrays["scores"], atol=1e-6)


def blur_whole_maps(maps: torch.Tensor) -> torch.Tensor:
    """The slow twin: every cell of (N, H, W) blurred, scaled to the old maximum."""
    kernel = torch.tensor(gaussian_kernel(11), dtype=torch.float64)
    square = (kernel[:, None] * kernel[None])[None, None]
    blurred = torch.nn.functional.conv2d(maps[:, None].double(), square, padding=5)[:, 0]
    return blurred * (maps.amax((1, 2)) / blurred.amax((1, 2)))[:, None, None]


@pytest.mark.parametrize(("level", "spread"), [(0.0, 1.0), (-0.5, 0.3), (0.0, 0.01), (0.0, 60.0), (0.3, 0.02)])
def test_cells_near_the_peak_are_those_of_the_whole_blurred_map(level, spread):
    maps = torch.randn(1, 40, *MAP_HW, generator=torch.Generator().manual_seed(3)) * spread + level
    column, row, scores = find_peaks(maps)
    inner = ((column > 0) & (column < 47) & (row > 0) & (row < 63))[0]
    made = codec()
    window = blurred_window(maps, column, row, made.kernel, 1, "zero")
    found = made.scaled(window, maps, scores)[0]
    whole = blur_whole_maps(maps[0])
    for i in torch.nonzero(inner)[:, 0]:
        x, y = int(column[0, i]), int(row[0, i])
        wanted = whole[i, y - 1 : y + 2, x - 1 : x + 2]
        torch.testing.assert_close(
            found[i].double().clamp(1e-3, 50).log().diff(), wanted.clamp(1e-3, 50).log().diff(), atol=2e-4, rtol=0
        )


def awkward_maps() -> torch.Tensor:
    h, w = MAP_HW
    maps = torch.zeros(17, h, w)
    maps[1] = -1.0
    maps[2] = float("nan")
    maps[3, 5, 5], maps[3, 40, 20] = float("nan"), 0.9
    maps[4, 10, 10] = float("inf")
    maps[5] = float("-inf")
    maps[6] = float("-inf")
    maps[6, 30, 20] = 0.5
    maps[7, 0, 0] = maps[8, h - 1, w - 1] = maps[9, 0, w - 1] = maps[10, h - 1, 0] = 1.0
    maps[11] = 0.4
    maps[12] = 3e38
    maps[13] = -3e38
    maps[13, 20, 20] = 1e-38
    return maps[None]


@pytest.mark.parametrize("border", ["zero", "reflect"])
def test_keypoints_and_scores_are_finite_whatever_the_maps(border):
    keypoints, scores = codec(border=border).decode(awkward_maps())
    assert torch.isfinite(keypoints).all() and torch.isfinite(scores).all()
    nothing = torch.tensor([-192 / 47, -256 / 63])
    for i, score in ((0, 0.0), (1, -1.0), (2, 0.0), (3, 0.0), (4, 0.0), (5, 0.0)):
        assert scores[0, i] == score
        torch.testing.assert_close(keypoints[0, i], nothing)
    near = torch.tensor([[20, 30], [0, 0], [47, 63], [47, 0], [0, 63]]) * torch.tensor([192 / 47, 256 / 63])
    assert torch.all((keypoints[0, 6:11] - near).abs() < 3)  # within a cell of the corner they peak in


@pytest.mark.parametrize("codec", ["udp_heatmap", "msra_heatmap"])
def test_maps_of_another_size_are_refused(codec):
    made = build_codec({"name": codec, "input_hw": [64, 48], "heatmap_hw": [16, 12]})
    for shape in ((2, 3, 12, 16), (3, 16, 12), (2, 3, 16, 16)):
        with pytest.raises(ModelError, match=r"heatmaps: expected \(B, K, 16, 12\), found"):
            made.decode(torch.zeros(shape))


def test_max_step_holds_the_point_near_its_cell():
    maps = torch.rand(2, 17, *MAP_HW, generator=torch.Generator().manual_seed(1))
    made = codec(max_step=1.0)
    column, row, _ = find_peaks(maps)
    cells = made.decode(maps)[0] / made.to_input
    assert torch.all((cells - torch.stack([column, row], -1)).abs() <= 1.0 + 1e-4)
    assert (codec().decode(maps)[0] - made.decode(maps)[0]).abs().max() > 4  # the free step goes further on noise


def test_the_batch_does_not_change_a_person():
    """The original kept flat indices in float32 and went wrong from the 299th person of a call on."""
    _, heatmaps = people(310)
    keypoints, scores = codec().decode(heatmaps)
    for i in (0, 1, 298, 299, 309):
        alone, score = codec().decode(heatmaps[i : i + 1])
        assert torch.equal(alone[0], keypoints[i]) and torch.equal(score[0], scores[i])
    again, _ = codec().decode(heatmaps.flip(0))
    assert torch.equal(again.flip(0), keypoints)


def test_the_first_of_equal_peaks_wins():
    maps = torch.zeros(1, 1, *MAP_HW)
    maps[0, 0, 20, 30] = maps[0, 0, 20, 35] = maps[0, 0, 40, 3] = 1.0
    column, row, _ = find_peaks(maps)
    assert (int(column), int(row)) == (30, 20)


def test_bfloat16_maps_decode_as_their_float32_values():
    _, heatmaps = people(3)
    rounded = heatmaps.bfloat16()
    for found, wanted in zip(codec().decode(rounded), codec().decode(rounded.float())):
        assert found.dtype == torch.float32 and torch.equal(found, wanted)


@pytest.mark.parametrize("border", ["zero", "reflect"])
def test_exported_decode_equals_eager_for_any_batch(border):
    made = codec(border=border)
    program = torch.export.export(
        made, (people(2)[1],), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},)
    ).module()
    for count in (1, 2, 7):
        heatmaps = people(count, seed=count)[1]
        for found, wanted in zip(program(heatmaps), made.decode(heatmaps)):
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    for found, wanted in zip(program(awkward_maps()), made.decode(awkward_maps())):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_a_traced_graph_has_room_for_some_whole_maps_and_stays_close_for_the_rest(monkeypatch):
    """Three maps of spikes below zero need the whole map; with room for two, two are exact and the third is finite."""
    heatmaps = people(2)[1]
    heatmaps[:, 4:7] = torch.randn(2, 3, *MAP_HW, generator=torch.Generator().manual_seed(5)) - 0.5
    wanted = codec().decode(heatmaps)[0]
    for room, exact in ((17, [4, 5, 6]), (2, None)):
        monkeypatch.setattr(BlurredMaximum, "ROOM", room * 64 * 48)
        found, _ = torch.export.export(codec(), (heatmaps,)).module()(heatmaps)
        same = ((found - wanted).abs() < 1e-2).all(dim=-1)
        assert torch.isfinite(found).all()
        assert same[:, :4].all() and same[:, 7:].all()
        if exact:
            assert same.all()
        else:
            assert torch.all(same[:, 4:7].sum(dim=1) >= 2) and not same.all()


def test_kernels_are_those_of_opencv():
    cv2 = pytest.importorskip("cv2")
    for size in (1, 3, 5, 7, 11, 17):
        np.testing.assert_allclose(gaussian_kernel(size), cv2.getGaussianKernel(size, 0)[:, 0], atol=1e-7)


def test_settings_that_cannot_be_used_are_answered():
    with pytest.raises(ConfigError, match="blur_kernel: expected an odd number"):
        codec(blur_kernel=10)
    with pytest.raises(ConfigError, match="border: expected zero or reflect, found 'wrap'"):
        codec(border="wrap")
    with pytest.raises(ConfigError, match="heatmap_hw"):
        codec(heatmap_hw=(1, 48))
    with pytest.raises(ConfigError, match="found 'udp'"):
        build_codec({"name": "udp"})
    with pytest.raises(ConfigError, match="do not fit"):
        build_codec({"name": "udp_heatmap", "input_hw": [256, 192]})
    made = build_codec({"name": "udp_heatmap", "input_hw": [256, 192], "heatmap_hw": [64, 48], "sigma": 2})
    assert torch.equal(made.decode(people(1)[1])[0], codec().decode(people(1)[1])[0])
