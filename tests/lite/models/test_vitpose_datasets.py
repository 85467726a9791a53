"""One data set out of a network for several: the plain network gives what the joint one gives for it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lite.checkpoints import load_network, read_state_dict, save_network
from lite.errors import CheckpointError
from lite.models.vitpose import dataset_of, vitpose_from_state_dict
from lite.models.vitpose_datasets import DATA_SETS, EXPERT_ORDER, data_sets_in, one_data_set
from lite.models.zoo import ZOO
from lite.skeletons import load_skeleton

TOLERANCE = 2e-5  # origin: tests/golden/vitpose/multi/README.md


@pytest.fixture
def plus(golden: Path) -> Path:
    return golden / "vitpose" / "multi" / "vitpose_plus_6"


@pytest.fixture
def state(plus: Path) -> dict[str, Tensor]:
    return read_state_dict(plus / "checkpoint.pth")[0]


def reproduces(network: torch.nn.Module, folder: Path, index: int) -> None:
    with np.load(folder / "io.npz") as arrays, torch.inference_mode():
        x = torch.from_numpy(arrays["input"][index : index + 1])
        feature = torch.from_numpy(arrays["feature_moe"][index : index + 1])
        torch.testing.assert_close(network.backbone(x), feature, atol=TOLERANCE, rtol=0)
        found = network(x)["heatmaps"]
        expected = torch.from_numpy(arrays[f"heatmap_moe_{index}"])[:, : found.shape[1]]
        torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("index", range(6))
def test_each_data_set_of_vitpose_plus(plus: Path, index: int) -> None:
    name = EXPERT_ORDER[index]
    network = load_network(plus / "checkpoint.pth", dataset=name)
    reproduces(network, plus, index)
    assert network.spec.outputs[0].shape == ("N", DATA_SETS[name].num_keypoints, 2)
    assert load_skeleton(network.spec.skeleton).num_keypoints == DATA_SETS[name].num_keypoints
    by_number = load_network(plus / "checkpoint.pth", dataset=index)
    assert by_number.spec == network.spec
    assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), by_number.state_dict().values()))


@pytest.mark.parametrize("index", range(3))
def test_each_data_set_of_hap_has_its_own_number_of_keypoints(shared: Path, index: int) -> None:
    folder = shared / "reference/vitpose/golden/multi/hap_coco_aic_mpii"
    network = load_network(folder / "checkpoint.pth", dataset=EXPERT_ORDER[index])
    reproduces(network, folder, index)
    assert network.spec.outputs[0].shape[1] == (17, 14, 16)[index]


def test_without_a_choice_it_is_coco(plus: Path) -> None:
    network = load_network(plus / "checkpoint.pth")
    reproduces(network, plus, 0)
    assert (network.spec.model, network.spec.skeleton) == ("vitpose-custom", "coco17")


@pytest.mark.parametrize(
    ("name", "affine", "codec"),
    [
        ("coco17", "udp", "udp_heatmap"),
        ("mpii16", "udp", "udp_heatmap"),
        ("aic14", "classic", "msra_heatmap"),
        ("ap10k17", "classic", "msra_heatmap"),
        ("apt36k17", "classic", "msra_heatmap"),
        ("wholebody133", "classic", "msra_heatmap"),
    ],
)
def test_each_data_set_is_cropped_and_read_as_it_was_trained(plus: Path, name: str, affine: str, codec: str) -> None:
    spec = load_network(plus / "checkpoint.pth", dataset=name).spec
    assert (spec.crop.affine, spec.codec["name"], spec.codec["sigma"]) == (affine, codec, 2.0)
    assert spec.codec.get("blur_kernel", 11) == 11 and spec.codec.get("border", "reflect") == "reflect"
    assert spec.crop.padding == 1.25
    built = ZOO[f"vitpose-plus-b-{name}"]
    with torch.device("meta"):
        wanted = built.build().spec
    assert (wanted.crop.affine, wanted.codec["name"], wanted.skeleton) == (affine, codec, spec.skeleton)


def test_another_input_size(plus: Path) -> None:
    at_load = load_network(plus / "checkpoint.pth", dataset="mpii16", input_hw=(384, 288))
    at_run = load_network(plus / "checkpoint.pth", dataset="mpii16")
    assert at_load.backbone.pos_embed.shape == (1, 1 + 24 * 18, 32)
    assert at_load.spec.codec["heatmap_hw"] == [96, 72]
    x = torch.randn(1, 3, 384, 288, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(at_load(x)["heatmaps"], at_run(x)["heatmaps"])


@pytest.mark.parametrize("name", ["coco17", "aic14", "mpii16"])
@pytest.mark.parametrize("input_hw", [(256, 192), (384, 288)])
def test_full_size_equals_the_listings_of_split_files(shared: Path, name: str, input_hw: tuple[int, int]) -> None:
    folder = shared / "reference/vitpose/manifests"
    start = f"hap_b_multi_{input_hw[0]}x{input_hw[1]}"
    before, after = (
        json.loads((folder / f"{start}_{end}.json").read_text())["keys"]
        for end in ("before_split", f"after_split_{name.rstrip('0123456789')}")
    )
    joint = {key: torch.empty(shape, dtype=getattr(torch, dtype), device="meta") for key, shape, dtype in before}
    plain, _ = one_data_set(joint, name)
    wanted = {key: shape for key, shape, _ in after if ".experts." not in key and not key.startswith("associate")}
    assert {key: list(value.shape) for key, value in plain.items()} == wanted


def test_what_a_file_holds_together(state: dict[str, Tensor]) -> None:
    assert data_sets_in(state) == EXPERT_ORDER
    plain, name = one_data_set(state, None)
    assert name == "coco17" and data_sets_in(plain) == ()
    assert one_data_set(plain, None)[1] is None  # nothing says which one it was
    assert one_data_set(plain, "apt36k17")[1] == "apt36k17"


def test_published_multi_task_extras_are_left_behind(state: dict[str, Tensor]) -> None:
    plain, _ = one_data_set(state, None)
    extra = {"backbone.cls_token": torch.zeros(1, 1, 32), "associate_heads.0.final_layer.bias": torch.zeros(14)}
    network = vitpose_from_state_dict({**plain, **extra}, {})
    assert list(network.state_dict()) == list(vitpose_from_state_dict(plain, {}).state_dict())


def test_files_split_by_the_original(state: dict[str, Tensor]) -> None:
    """It leaves the experts in all of them, and the other heads in the first."""
    experts = {name: value for name, value in state.items() if ".experts." in name}
    heads = {name: value for name, value in state.items() if name.startswith("associate_keypoint_heads.")}
    coco, aic = (one_data_set(state, name)[0] for name in ("coco17", "aic14"))
    for left, plain, skeleton in (({**coco, **experts, **heads}, coco, "coco17"), ({**aic, **experts}, aic, "aic14")):
        network = vitpose_from_state_dict(left, {})
        assert network.spec.skeleton == skeleton
        assert all(torch.equal(value, plain[name]) for name, value in network.state_dict().items())
    assert vitpose_from_state_dict({**aic, **experts}, {}, dataset="aic14").spec.skeleton == "aic14"
    with pytest.raises(CheckpointError, match="found one; leave out the choice of 'mpii16'"):
        vitpose_from_state_dict({**coco, **experts, **heads}, {}, dataset="mpii16")


def test_heads_without_experts(state: dict[str, Tensor]) -> None:
    """A trunk that all data sets share."""
    shared_trunk, _ = one_data_set(state, None)
    heads = {name: value for name, value in state.items() if name.startswith("associate_keypoint_heads.")}
    plain, name = one_data_set({**shared_trunk, **heads}, "mpii16")
    assert name == "mpii16" and plain["keypoint_head.final_layer.weight"].shape[0] == 16
    key = "backbone.blocks.0.mlp.fc2.weight"
    assert torch.equal(plain[key], shared_trunk[key])


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("coco18", "expected a data set out of coco17, .*found 'coco18'"),
        ("crowdpose14", "expected a network for crowdpose14, found one for coco17, aic14"),
        (6, "expected data set 0 to 5, found 6"),
        (-1, "expected data set 0 to 5, found -1"),
    ],
)
def test_a_data_set_it_does_not_hold(plus: Path, wanted: str | int, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        load_network(plus / "checkpoint.pth", dataset=wanted)


def test_a_choice_where_there_is_none(golden: Path, state: dict[str, Tensor]) -> None:
    plain = golden / "vitpose" / "networks" / "classic_64x48" / "checkpoint.pth"
    assert load_network(plain, dataset="apt36k17").spec.skeleton == "ap10k17"  # 17 keypoints as well
    with pytest.raises(CheckpointError, match="expected a head for the 16 keypoints of mpii16, found one for 17"):
        load_network(plain, dataset="mpii16")
    with pytest.raises(CheckpointError, match="found one; leave out the choice of 2"):
        load_network(plain, dataset=2)
    with pytest.raises(CheckpointError, match="to choose data set 'mpii16' of, found sapiens"):
        load_network(golden / "sapiens" / "networks" / "pose_tiny.pth", dataset="mpii16")
    del state["backbone.blocks.0.mlp.experts.3.bias"]
    with pytest.raises(CheckpointError, match=r"expected expert 3 beside backbone\.blocks\.0\.mlp\.fc2\.bias"):
        vitpose_from_state_dict(state, {}, dataset=3)


def test_a_saved_network_stays_what_it_is(plus: Path, tmp_path: Path) -> None:
    network = load_network(plus / "checkpoint.pth", dataset="wholebody133")
    loaded = load_network(save_network(network, tmp_path / "x.safetensors"))
    assert (loaded.spec.skeleton, loaded.spec.codec) == ("wholebody133", network.spec.codec)


def test_names_end_in_their_data_set() -> None:
    rows = [row for row in ZOO.values() if row.family in ("vitpose", "hap")]
    assert len(rows) == 8 + 9 + 12 + 24 + 12
    assert {dataset_of(row.name) for row in rows} == set(DATA_SETS)
    assert dataset_of("vitpose-custom") is dataset_of(None) is dataset_of(5) is None
    assert ZOO["vitpose-plus-h-apt36k17"].accuracy == {"AP": 82.3}
    assert ZOO["hap-b-384x288-multi-mpii16"].accuracy == {"PCKh": 93.6}
    assert ZOO["vitpose-l-crowdpose14"].accuracy == {"AP": 76.6, "AP (H)": 65.9}


@pytest.mark.parametrize(
    ("row", "experts", "input_hw"),
    [
        ("vitpose-plus-s-ap10k17", 6, (256, 192)),
        ("hap-b-multi-aic14", 3, (256, 192)),
        ("hap-b-384x288-multi-mpii16", 3, (384, 288)),
    ],
)
def test_a_published_size_is_recognised(row: str, experts: int, input_hw: tuple[int, int]) -> None:
    from lite.models.vitpose_experts import vitpose_experts

    with torch.device("meta"):
        joint = vitpose_experts("s" if "-s-" in row else "b", experts, input_hw).state_dict()
        network = vitpose_from_state_dict(joint, {}, dataset=row.rsplit("-", 1)[1])
        wanted = ZOO[row].build()
    assert network.spec == wanted.spec
    assert [(n, v.shape) for n, v in network.state_dict().items()] == [
        (n, v.shape) for n, v in wanted.state_dict().items()
    ]


def test_the_only_head_is_not_taken_for_another_data_sets(golden: Path) -> None:
    """Files of transformers have all experts and one head; COCO's fits the animals in shape."""
    state, _ = read_state_dict(golden / "vitpose/multi/vitpose_plus_6/checkpoint.pth")
    state = {name: tensor for name, tensor in state.items() if not name.startswith("associate_keypoint_heads.")}
    with pytest.raises(CheckpointError, match="by its position, 3"):
        one_data_set(state, "ap10k17")
    assert one_data_set(state, 3)[1] == "ap10k17"
    assert one_data_set(state, "coco17")[1] == "coco17"
