"""HRNet and its classifier: names, numbers, tracing, folding. Arrays: tests/golden/hrnet/README.md."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lite.artifact import FrameRule
from lite.backends.fold import fold_batch_norm
from lite.codecs import build_codec
from lite.label_sets.imagenet import imagenet_names
from lite.models.higher_hrnet import HigherHRNet
from lite.models.hrnet import Bottleneck, ClassificationHRNet, HRNet, classes_spec, classification_hrnet
from tests.lite.models.hrnet_weights import generated

TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def names(golden: Path) -> dict:
    return json.loads(gzip.decompress((golden / "hrnet" / "names.json.gz").read_bytes()))


@pytest.fixture(scope="module")
def arrays(golden: Path) -> dict[str, np.ndarray]:
    return dict(np.load(golden / "hrnet" / "classification_forward.npz"))


def loaded(network: nn.Module) -> nn.Module:
    network.load_state_dict(generated(network))
    return network.eval()


def picture(quantised: np.ndarray) -> Tensor:
    return torch.from_numpy(quantised).float() / 32


@pytest.mark.parametrize(
    ("listing", "build"),
    [
        ("classification_hrnet_w32", lambda: ClassificationHRNet(32, 1000)),
        ("higherhrnet_w32", lambda: HigherHRNet(32, 17)),
    ],
)
def test_tensors_are_those_of_the_original(names, listing, build):
    with torch.device("meta"):
        network = build()
    mine = [[name, list(t.shape), str(t.dtype).removeprefix("torch.")] for name, t in network.state_dict().items()]
    assert mine == names[listing]["entries"]
    assert sum(p.numel() for p in network.parameters()) == names[listing]["num_parameters"]


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (lambda: ClassificationHRNet(48, 1000), 77_469_864),
        (lambda: HigherHRNet(48, 17), 63_827_139),
        (lambda: HigherHRNet(8, 17), 2_149_739),
        (lambda: HigherHRNet(32, 17, higher=False), 28_536_674),
    ],
)
def test_counts_of_other_sizes(build, count):
    with torch.device("meta"):
        assert sum(p.numel() for p in build().parameters()) == count


@torch.no_grad()
def test_logits_and_maps_of_width_8(arrays):
    network = loaded(ClassificationHRNet(8, 1000))
    x = picture(arrays["c8_a_input_q"])
    for i, y in enumerate(network.backbone(x)):
        np.testing.assert_allclose(y.numpy(), arrays[f"c8_a_backbone_s{i}"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(network(x)["logits"].numpy(), arrays["c8_a_logits"], rtol=0, atol=TOLERANCE)


@pytest.fixture(scope="module")
def small() -> ClassificationHRNet:
    return loaded(ClassificationHRNet(4, 10))


@torch.no_grad()
def test_logits_of_a_picture_that_is_not_square(small, arrays):
    logits = small(picture(arrays["c4n10_a_input_q"]))["logits"]
    np.testing.assert_allclose(logits.numpy(), arrays["c4n10_a_logits"], rtol=0, atol=TOLERANCE)
    probabilities = build_codec({"name": "softmax"}).decode(logits.to(torch.bfloat16))
    assert probabilities.dtype == torch.float32 and probabilities.argmax() == logits.argmax()
    assert abs(float(probabilities.sum()) - 1) < 1e-6


@torch.no_grad()
def test_parity_at_width_32(shared):
    arrays = np.load(shared / "reference" / "higherhrnet" / "golden" / "classification_forward.npz")
    network = loaded(ClassificationHRNet(32, 1000))
    logits = network(picture(arrays["c32_a_input_q"]))["logits"].numpy()
    np.testing.assert_allclose(logits, arrays["c32_a_logits"], rtol=0, atol=TOLERANCE)


def test_a_shortcut_is_plain_where_nothing_widens():
    assert Bottleneck(128, 128).downsample is None
    assert "downsample.0.weight" in Bottleneck(64, 128).state_dict()


@torch.no_grad()
def test_pictures_of_a_batch_do_not_mix(small):
    x = torch.randn(3, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    together = small(x)["logits"]
    for n in range(3):
        torch.testing.assert_close(small(x[n : n + 1])["logits"][0], together[n], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_folding_norms_changes_nothing(small):
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    folded = loaded(ClassificationHRNet(4, 10))
    assert fold_batch_norm(folded) == sum(isinstance(m, nn.BatchNorm2d) for m in small.modules())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    torch.testing.assert_close(folded(x)["logits"], small(x)["logits"], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_traces_with_any_batch(small):
    batch = torch.export.Dim("batch", min=1, max=8)
    exported = torch.export.export(small, (torch.zeros(2, 3, 64, 64),), dynamic_shapes=({0: batch},)).module()
    for n in (1, 5):
        x = torch.randn(n, 3, 64, 64, generator=torch.Generator().manual_seed(n))
        torch.testing.assert_close(exported(x)["logits"], small(x)["logits"], atol=1e-5, rtol=1e-5)


def test_every_parameter_learns():
    torch.manual_seed(0)
    network = HRNet(4).train()
    sum(y.square().sum() for y in network(torch.randn(2, 3, 64, 64))).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_spec_of_a_classifier():
    with torch.device("meta"):
        spec = classification_hrnet(32, "hrnet-w32-imagenet1000").spec
    assert spec.task == "classify" and spec.input_hw == (224, 224) and spec.labels == imagenet_names()
    assert spec.frame == FrameRule(kind="center-crop", short_side=256)
    assert spec.outputs[0].shape == ("N", 1000)
    assert classes_spec("x", (224, 224), 3).labels == ()


@pytest.mark.parametrize(("side", "short_side"), [(224, 256), (256, 256), (128, 146), (448, 512)])
def test_short_side_of_the_resized_frame(side, short_side):
    assert classes_spec("x", (side, side), 2).frame.short_side == short_side
