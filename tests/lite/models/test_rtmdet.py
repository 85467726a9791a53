"""RTMDet against mmdetection's key lists and outputs."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from lite.checkpoints import load_network
from lite.errors import CheckpointError, ModelError
from lite.graph import PixelGraph
from lite.models.rtmdet import (
    ZOO_ROWS,
    RTMDet,
    match_rtmdet,
    rtmdet,
    rtmdet_from_state_dict,
    scaled_sizes,
    sizes_from_tensors,
)

TAGS = ("std", "nano", "multi")
MANIFESTS = {
    "rtmdet-nano-person": "rtmdet_nano_person",
    "rtmdet-m-person": "rtmdet_m_person",
    "rtmdet-tiny-coco80": "rtmdet_tiny",
    "rtmdet-s-coco80": "rtmdet_s",
    "rtmdet-l-coco80": "rtmdet_l",
    "rtmdet-x-coco80": "rtmdet_x",
}


def read_golden(golden, tag):
    return torch.load(golden / "rtmdet" / f"{tag}.pth", weights_only=True)


def load(golden, tag):
    file = read_golden(golden, tag)
    config = json.loads((golden / "rtmdet" / f"{tag}.json").read_text())["model"]["bbox_head"]
    sizes = replace(sizes_from_tensors(file["state_dict"]), exp_on_reg=config["exp_on_reg"])
    assert (sizes.share_conv, sizes.num_classes) == (config["share_conv"], config["num_classes"])
    return rtmdet_from_state_dict(file["state_dict"], file["meta"], sizes=sizes)


@pytest.mark.parametrize("name", MANIFESTS)
def test_published_sizes_have_the_published_tensors(shared, name):
    manifest = json.loads((shared / f"reference/rtmdet/manifests/{MANIFESTS[name]}.json").read_text())
    row = next(row for row in ZOO_ROWS if row.name == name)
    with torch.device("meta"):
        network = row.build()
    found = [[key, list(t.shape), str(t.dtype).removeprefix("torch.")] for key, t in network.state_dict().items()]
    assert found == manifest["tensors"]
    assert sum(p.numel() for p in network.parameters()) == manifest["parameters_unique"]
    assert {m.eps for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)} == set(manifest["bn_eps"])
    assert sizes_from_tensors_of_zeros(network) == network.sizes


def sizes_from_tensors_of_zeros(network):
    """Zeros are equal in all levels, so sharing shows; nano is told apart by its depthwise convolutions."""
    state = {key: torch.zeros(()).expand(tensor.shape) for key, tensor in network.state_dict().items()}
    return sizes_from_tensors(state)


def test_known_numbers_of_parameters():
    counts = {}
    for size, labels in (("nano", "person"), ("m", "person"), ("tiny", "coco80")):
        with torch.device("meta"):
            counts[size] = sum(p.numel() for p in rtmdet(size, labels).parameters())
    assert counts == {"nano": 994423, "m": 24663447, "tiny": 4896168}


@pytest.mark.parametrize("tag", TAGS)
def test_outputs_on_noise(golden, tag):
    stored = np.load(golden / "rtmdet" / f"{tag}_noise.npz")
    noise = np.random.default_rng(7).normal(size=(2, 3, 64, 96)).astype(np.float32)
    with torch.no_grad():
        raw = load(golden, tag)(torch.from_numpy(noise))
    compare(raw, stored, range(2))


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("canvas", ["320x320", "192x256"])
def test_outputs_of_the_original_on_photographs(shared, golden, tag, canvas):
    stored = np.load(shared / f"reference/rtmdet/golden/{tag}_{canvas}.npz")
    network = load(golden, tag)
    x = torch.from_numpy(stored["input"])
    with torch.no_grad():
        raw = network(x)
        trunk = network.backbone(x[:1])
        neck = network.neck(trunk)
    compare(raw, stored, range(len(x)))
    for i, stride in enumerate((8, 16, 32)):
        if f"neck_s{stride}" in stored:
            np.testing.assert_allclose(trunk[i], stored[f"backbone_s{stride}"], rtol=0, atol=2e-4)
            np.testing.assert_allclose(neck[i], stored[f"neck_s{stride}"], rtol=0, atol=2e-4)


def compare(raw, stored, pictures):
    for i, stride in enumerate((8, 16, 32)):
        for n in pictures:
            np.testing.assert_allclose(raw["cls"][i][n], stored[f"cls_s{stride}"][n], rtol=0, atol=2e-4)
            expected = stored[f"reg_s{stride}"][n]
            difference = np.abs(raw["reg"][i][n].numpy() - expected) / (1 + np.abs(expected))
            assert difference.max() < 2e-4


def test_shared_convolutions_stay_one_tensor(golden):
    head = load(golden, "multi").bbox_head
    assert head.cls_convs[0][1].conv.weight is head.cls_convs[2][1].conv.weight
    assert head.cls_convs[0][1].bn.weight is not head.cls_convs[2][1].bn.weight


def test_levels_that_differ_in_the_file_are_not_shared(golden):
    state = read_golden(golden, "multi")["state_dict"]
    state["bbox_head.reg_convs.1.0.conv.weight"] = state["bbox_head.reg_convs.1.0.conv.weight"] + 1
    network = rtmdet_from_state_dict(state, {})
    assert not network.sizes.share_conv
    assert torch.equal(network.bbox_head.reg_convs[1][0].conv.weight, state["bbox_head.reg_convs.1.0.conv.weight"])


def test_spec_comes_from_the_file(golden):
    network = load(golden, "multi")
    assert network.spec.labels == tuple(f"class{i}" for i in range(5))
    assert (network.spec.color_order, network.spec.letterbox.fill, network.spec.model) == ("BGR", 114, "rtmdet-custom")
    assert not network.training


@pytest.mark.parametrize(
    "meta, labels",
    [
        ({"dataset_meta": {"CLASSES": ("human",)}}, ("human",)),
        ({"dataset_meta": {"classes": ["human"]}}, ("human",)),
        ({"CLASSES": ("human",)}, ("human",)),
        ({}, ("person",)),
    ],
)
def test_class_names(golden, meta, labels):
    spec = rtmdet_from_state_dict(read_golden(golden, "nano")["state_dict"], meta).spec
    assert (spec.labels, spec.person_label) == (labels, 0)


def test_name_given_decides_what_tensors_cannot_show():
    state = rtmdet("nano", "person").state_dict()
    network = rtmdet_from_state_dict(state, {}, model="person-nano", input_hw=(416, 416))
    assert (network.spec.model, network.spec.input_hw) == ("person-nano", (416, 416))
    assert rtmdet_from_state_dict(state, {}).spec.model == "rtmdet-nano-person"
    with pytest.raises(CheckpointError, match="rtmdet-nano-person"):
        rtmdet_from_state_dict(state, {}, model="rtmdet-tiny-coco80")
    with pytest.raises(ModelError, match="rtmdet-m-person"):
        rtmdet_from_state_dict(state, {}, model="sapiens-1b-coco17")


def test_configuration_text_in_the_file_tells_exponential_distances(golden):
    file = read_golden(golden, "std")
    assert not rtmdet_from_state_dict(file["state_dict"], {}).sizes.exp_on_reg
    assert rtmdet_from_state_dict(file["state_dict"], {"cfg": "head = dict(exp_on_reg=True)"}).sizes.exp_on_reg


def test_strict_loading_names_what_is_wrong(golden):
    state = dict(read_golden(golden, "nano")["state_dict"])
    state["extra.weight"] = torch.zeros(1)
    del state["neck.out_convs.1.depthwise_conv.bn.bias"]
    with pytest.raises(CheckpointError) as caught:
        rtmdet_from_state_dict(state, {})
    assert "extra.weight" in str(caught.value) and "neck.out_convs.1.depthwise_conv.bn.bias" in str(caught.value)
    with pytest.raises(CheckpointError, match="stem"):
        rtmdet_from_state_dict({key: t for key, t in state.items() if "stem" not in key}, {})


def test_wrong_number_of_class_names(golden):
    with pytest.raises(CheckpointError, match="2"):
        rtmdet_from_state_dict(read_golden(golden, "nano")["state_dict"], {"CLASSES": ("a", "b")})


def test_match(golden):
    assert match_rtmdet(read_golden(golden, "nano")["state_dict"])
    assert not match_rtmdet({"backbone.stem.0.conv.weight": 0})


def test_canvas_must_be_a_multiple_of_32():
    network = RTMDet(scaled_sizes(0.0625, 0.167, neck_blocks=1, num_classes=1))
    with pytest.raises(ModelError, match="32"):
        network(torch.zeros(1, 3, 64, 48))
    with pytest.raises(ModelError, match="32"):
        rtmdet("nano", "person", canvas=100)


def test_batch_norm_epsilon_is_honoured(golden):
    state = read_golden(golden, "nano")["state_dict"]
    sizes = replace(sizes_from_tensors(state), bn_eps=(1e-5, 1e-3, 1e-2))
    network = rtmdet_from_state_dict(state, {}, sizes=sizes)
    found = [network.backbone.stem[0].bn.eps, network.neck.reduce_layers[0].bn.eps]
    assert [*found, network.bbox_head.cls_convs[0][0].depthwise_conv.bn.eps] == [1e-5, 1e-3, 1e-2]


def test_embedded_weights_are_whole(root):
    safetensors = pytest.importorskip("safetensors")
    with safetensors.safe_open(root / "checkpoints" / "person-nano.safetensors", "pt") as file:
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        network = rtmdet_from_state_dict(state, file.metadata())
    assert (network.spec.model, network.spec.input_hw, network.spec.labels) == ("person-nano", (320, 320), ("person",))


def test_a_canvas_of_our_own_files_is_checked_when_they_are_loaded(root):
    path = root / "checkpoints" / "person-nano.safetensors"
    assert load_network(path, input_hw=(416, 256)).spec.input_hw == (416, 256)
    with pytest.raises(ModelError, match=r"multiples of 32, found \(330, 320\)"):
        load_network(path, input_hw=(330, 320))


def test_canvases_are_normalised_as_the_original_did(golden, shared):
    folder = shared / "reference/rtmdet/golden/preproc"
    graph = PixelGraph(torch.nn.Identity(), None, load(golden, "nano").spec)
    stored = sorted(folder.glob("*_tensor.npz"))
    assert len(stored) == 2
    for path in stored:
        canvas = cv2.imread(str(path).replace("_tensor.npz", "_net.png"))[..., ::-1].copy()
        found = graph.normalise(torch.from_numpy(canvas)[None])
        torch.testing.assert_close(found, torch.from_numpy(np.load(path)["tensor"]), atol=2e-6, rtol=0)
