"""Lite-HRNet: the fusion's formula, sizes, strict loading, and the embedded weights on a real picture."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lite.artifact import sha256_of
from lite.checkpoints import load_network, save_network
from lite.codecs import build_codec
from lite.errors import CheckpointError
from lite.geometry import box_to_center_scale, transform_points, udp_affine, udp_to_frame
from lite.models.lite_hrnet import (
    Fusion,
    LiteHRNet,
    ShuffleUnit,
    lite_hrnet_from_state_dict,
    match_lite_hrnet,
    pose17_small,
)


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return LiteHRNet(num_keypoints=3, channels=(8, 16, 32, 64), modules=(1, 1, 1)).eval()


def up(x, times):
    return x.repeat_interleave(2**times, 2).repeat_interleave(2**times, 3)


@torch.no_grad()
def test_fusion_is_the_sum_that_the_original_forms():
    torch.manual_seed(1)
    fusion = Fusion((4, 8, 16)).eval()
    x = [torch.rand(2, c, 16 // 2**i, 8 // 2**i) for i, c in enumerate((4, 8, 16))]
    rows = fusion.rows
    finest = 2 * x[0] + up(rows[0]["1"](x[1]), 1) + up(rows[0]["2"](x[2]), 2)
    middle = rows[1]["0"](finest) + x[1] + up(rows[1]["2"](x[2]), 1)
    coarse = rows[2]["0"](finest) + rows[2]["1"](x[1]) + x[2]
    for got, expected in zip(fusion([y.clone() for y in x]), (finest, middle, coarse)):
        torch.testing.assert_close(got, F.relu(expected))


@pytest.mark.parametrize("training", [True, False])
@torch.no_grad()
def test_units_pass_and_number_channels_as_a_shuffle_would(training):
    """Against the original's form: split, convolve the upper half, interleave."""
    torch.manual_seed(2)
    x = torch.rand(2, 16, 6, 5)
    stored, order, shuffled = x, tuple(range(16)), x
    for _ in range(5):
        unit = ShuffleUnit(order).train(training)
        upper = [place for place, number in enumerate(order) if number >= 8]
        unit.mix.weight.data[:, [place for place in range(16) if place not in upper]] = 0
        stored = unit(stored)
        passing, used = shuffled.chunk(2, 1)
        mix = unit.mix.weight.data[:, sorted(upper, key=lambda place: order[place])]
        new = unit.conv(F.conv2d(used, mix, unit.mix.bias).relu()).relu()
        shuffled = F.channel_shuffle(torch.cat((passing, new), 1), 2)
        order = unit.next_order
        torch.testing.assert_close(stored, shuffled[:, list(order)])


@torch.no_grad()
def test_heatmaps_are_a_quarter_of_any_input_and_rows_do_not_mix(tiny):
    for height, width in ((64, 32), (32, 96)):
        x = torch.randn(3, 3, height, width)
        heatmaps = tiny(x)["heatmaps"]
        assert heatmaps.shape == (3, 3, height // 4, width // 4)
        torch.testing.assert_close(tiny(x[1:2])["heatmaps"], heatmaps[1:2], atol=1e-5, rtol=1e-4)


def test_every_parameter_learns(tiny):
    for module in tiny.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.bias.data.fill_(0.1)  # keeps every rectifier awake
    tiny.train()(torch.randn(2, 3, 64, 64))["heatmaps"].square().sum().backward()
    assert [name for name, p in tiny.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_loads_strictly(tmp_path):
    network = pose17_small()
    assert sum(p.numel() for p in network.parameters()) == 1_511_377
    state = network.state_dict()
    assert match_lite_hrnet(state)
    assert not match_lite_hrnet({"backbone.pos_embed": 0})
    loaded = lite_hrnet_from_state_dict(state, {"hpe_lite_spec": json.dumps(network.spec.to_dict())})
    assert loaded.spec == network.spec
    wide = lite_hrnet_from_state_dict(state, input_hw=(384, 288))
    assert wide.spec.codec["heatmap_hw"] == [96, 72]
    with pytest.raises(CheckpointError, match="multiples of 32"):
        lite_hrnet_from_state_dict(state, input_hw=(250, 190))
    state = {name: value for name, value in state.items() if name != "stem.first.bias"}
    with pytest.raises(CheckpointError, match=r"1 missing: stem\.first\.bias"):
        lite_hrnet_from_state_dict({**state, "stem.expand.weight": state["stem.expand.weight"]})
    path = save_network(network, tmp_path / "x.safetensors")
    assert load_network(path).spec == replace(network.spec, source_sha256=sha256_of(path))


@torch.no_grad()
def test_the_embedded_weights_find_the_astronaut(root):
    """Points read off the picture by eye, within 12 px of its 512."""
    network = load_network(root / "checkpoints" / "pose17-small.safetensors")
    picture = cv2.cvtColor(cv2.imread(str(root / "lite" / "pictures" / "astronaut.jpg")), cv2.COLOR_BGR2RGB)
    spec = network.spec
    center, scale = box_to_center_scale(np.float32([[20, 0, 440, 512]]), spec.crop.padding, spec.input_hw)
    crop = cv2.warpAffine(picture, udp_affine(center, scale, spec.input_hw)[0], spec.input_hw[::-1])
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (spec.mean, spec.std))
    x = (torch.from_numpy(crop).permute(2, 0, 1)[None].float() - mean) / std
    keypoints, scores = build_codec(spec.codec).decode(network(x)["heatmaps"])
    found = transform_points(keypoints.numpy(), udp_to_frame(center, scale, spec.input_hw))[0]
    expected = {0: (226, 131), 1: (242, 111), 2: (207, 112)}  # nose, left eye, right eye
    for i, point in expected.items():
        assert np.linalg.norm(found[i] - point) < 12, (i, found[i])
        assert scores[0, i] > 0.4
    assert found[5, 0] > found[6, 0]  # her left shoulder is on the right of the picture
