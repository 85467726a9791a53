"""HigherHRNet: numbers, two kinds, tracing at any size, folding. Arrays: tests/golden/hrnet/README.md."""

import numpy as np
import pytest
import torch
from torch import nn

from lite.artifact import FrameRule
from lite.backends.fold import fold_batch_norm
from lite.models.higher_hrnet import HigherHRNet, higher_hrnet
from lite.models.zoo import ZOO
from tests.lite.models.hrnet_weights import generated

NAMES = {"heatmaps_4": "heatmaps_4", "heatmaps_2": "heatmaps_2", "tags": "tags_4"}


def loaded(network: nn.Module) -> nn.Module:
    network.load_state_dict(generated(network))
    return network.eval()


@pytest.fixture(scope="module")
def small() -> HigherHRNet:
    return loaded(HigherHRNet(4, 17))


@torch.no_grad()
def check(network: HigherHRNet, arrays, case: str) -> None:
    out = network(torch.from_numpy(arrays[f"{case}_input_q"]).float() / 32)
    assert out.keys() == NAMES.keys()
    for name, stored in NAMES.items():
        np.testing.assert_allclose(out[name].numpy(), arrays[f"{case}_{stored}"], rtol=0, atol=1e-3)


def test_maps_of_width_8(golden):
    check(loaded(HigherHRNet(8, 17)), np.load(golden / "hrnet" / "higherhrnet_forward.npz"), "c8_b")


@pytest.mark.parametrize(("width", "case"), [(8, "c8_a"), (32, "c32_a")])
def test_maps_of_the_other_cases(shared, width, case):
    arrays = np.load(shared / "reference" / "higherhrnet" / "golden" / "higherhrnet_forward.npz")
    check(loaded(HigherHRNet(width, 17)), arrays, case)


@torch.no_grad()
def test_one_resolution_gives_the_same_first_maps(small):
    plain = HigherHRNet(4, 17, higher=False)
    plain.load_state_dict({name: t for name, t in small.state_dict().items() if not name.startswith("deconv")})
    x = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    alone, both = plain.eval()(x), small(x)
    assert alone.keys() == {"heatmaps_4", "tags"}
    for name in alone:
        assert alone[name].shape == (2, 17, 16, 24)
        assert torch.equal(alone[name], both[name])


@torch.no_grad()
def test_folding_norms_changes_nothing(small):
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    folded = loaded(HigherHRNet(4, 17))
    fold_batch_norm(folded)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    out, expected = folded(x), small(x)
    for name in NAMES:
        torch.testing.assert_close(out[name], expected[name], atol=1e-3, rtol=1e-4)


@torch.no_grad()
def test_traces_with_any_batch_and_size(small):
    batch = torch.export.Dim("batch", min=1, max=8)
    high, wide = (64 * torch.export.Dim(name, min=1, max=16) for name in ("high", "wide"))
    shapes = ({0: batch, 2: high, 3: wide},)
    exported = torch.export.export(small, (torch.zeros(2, 3, 128, 192),), dynamic_shapes=shapes).module()
    for n, h, w in ((1, 128, 64), (3, 64, 192)):
        x = torch.randn(n, 3, h, w, generator=torch.Generator().manual_seed(n))
        out, expected = exported(x), small(x)
        for name in NAMES:
            torch.testing.assert_close(out[name], expected[name], atol=1e-4, rtol=1e-4)


def test_spec():
    with torch.device("meta"):
        spec = higher_hrnet(32, "coco17", name="higherhrnet-w32-coco17").spec
    assert spec.task == "pose-bottom-up" and spec.skeleton == "coco17" and spec.input_hw == (512, 512)
    assert spec.frame == FrameRule(kind="short-side", multiple=64)
    np.testing.assert_allclose(spec.mean, [123.675, 116.28, 103.53])
    np.testing.assert_allclose(spec.std, [58.395, 57.12, 57.375])
    with torch.device("meta"):
        assert ZOO["higherhrnet-w48-coco17"].build().spec.input_hw == (640, 640)  # as its weights were trained
