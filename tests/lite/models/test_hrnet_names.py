"""HRNet files of every origin load without naming a model, and give the same network."""

import gzip
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lite.checkpoints import load_network, save_network
from lite.errors import CheckpointError
from lite.models.higher_hrnet import HigherHRNet
from lite.models.hrnet import ClassificationHRNet
from lite.models.hrnet_family import hrnet_from_state_dict, match_hrnet
from lite.models.hrnet_names import upstream_name
from lite.models.hrnet_rows import ZOO_ROWS
from tests.lite.models.hrnet_weights import generated


@pytest.fixture(scope="module")
def names(golden: Path) -> dict:
    return json.loads(gzip.decompress((golden / "hrnet" / "names.json.gz").read_bytes()))


@pytest.fixture(scope="module")
def pose() -> dict[str, Tensor]:
    return generated(HigherHRNet(4, 17))


@pytest.fixture(scope="module")
def classes() -> dict[str, Tensor]:
    return generated(ClassificationHRNet(4, 1000))


@pytest.mark.parametrize("other", ["classification_to_original", "higherhrnet_to_mmpose0x", "higherhrnet_to_original"])
def test_key_maps_are_reproduced(names, other):
    key_map = names[f"keymap_{other}"]
    assert [upstream_name(name) for name in key_map.values()] == list(key_map)
    assert [upstream_name(name) for name in key_map] == list(key_map)  # its own names stay


def trainer_checkpoint(state: dict[str, Tensor]) -> dict:
    """As the trainer of pytorch-human-pose writes it, random states of four libraries included."""
    return {
        "module": {
            "model": state,
            "optimizers": {"optim": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3}]}},
            "lr_schedulers": {"optim": {"milestones": Counter({200: 1, 260: 1}), "_last_lr": [1e-3]}},
            "scalers": {"optim": {"scale": 65536.0, "_growth_tracker": 0}},
        },
        "datamodule": {
            "random_state": random.getstate(),
            "torch_random_state": torch.get_rng_state(),
            "torch_cuda_random_state_all": [],
            "torch_cuda_random_state": torch.get_rng_state(),
            "numpy_random_state": np.random.get_state(),
        },
        "metrics": {"steps": {"metrics": {}}, "validation": {"metrics": {"loss": [np.float64(0.5)]}}},
        "callbacks": {"SaveModelCheckpoint": {"best": np.float32(0.25)}},
        "logger": {"mlflow": "0123"},
        "epoch": 3,
        "step": 700,
    }


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def renamed(state: dict[str, Tensor], key_map: dict[str, str]) -> dict[str, Tensor]:
    return {key_map[name]: tensor for name, tensor in state.items()}


POSE_ORIGINS = {
    "bare": lambda s, n: s,
    "trainer": lambda s, n: trainer_checkpoint(prefixed("net.", s)),
    "trainer, distributed and compiled": lambda s, n: trainer_checkpoint(prefixed("module._orig_mod.net.", s)),
    "original": lambda s, n: renamed(s, n["keymap_higherhrnet_to_original"]),
    "original, 1.": lambda s, n: prefixed("1.", renamed(s, n["keymap_higherhrnet_to_original"])),
    "original, wrapped": lambda s, n: {"model": renamed(s, n["keymap_higherhrnet_to_original"]), "epoch": 300},
    "mmpose 0.x": lambda s, n: {
        "meta": {"epoch": 300},
        "state_dict": renamed(s, n["keymap_higherhrnet_to_mmpose0x"]),
    },
}


@pytest.mark.parametrize("origin", POSE_ORIGINS)
def test_pose_files(origin, pose, names, tmp_path):
    torch.save(POSE_ORIGINS[origin](pose, names), tmp_path / "x.pth")
    network = load_network(tmp_path / "x.pth")
    assert isinstance(network, HigherHRNet) and network.spec.task == "pose-bottom-up"
    assert network.spec.skeleton == "coco17" and network.spec.model == "higherhrnet-custom"
    assert all(torch.equal(tensor, pose[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("origin", ["bare", "original", "trainer"])
def test_classification_files(origin, classes, names, tmp_path):
    forms = {
        "bare": classes,
        "original": renamed(classes, names["keymap_classification_to_original"]),
        "trainer": trainer_checkpoint(prefixed("module.", classes)),
    }
    torch.save(forms[origin], tmp_path / "x.pt")
    network = load_network(tmp_path / "x.pt", input_hw=(256, 256))
    assert isinstance(network, ClassificationHRNet) and network.spec.task == "classify"
    assert network.spec.input_hw == (256, 256) and len(network.spec.labels) == 1000
    assert all(torch.equal(tensor, classes[name]) for name, tensor in network.state_dict().items())


def test_plain_associative_embedding_of_mmpose_1(pose, names, tmp_path):
    key_map = {upstream_name(name): name for name, _, _ in names["mmpose1x_ae_hrnet_w32"]["entries"]}
    with torch.device("meta"):
        assert set(key_map) == set(HigherHRNet(4, 17, higher=False).state_dict())
    state = {other: pose[name] for name, other in key_map.items()}
    torch.save({"meta": {}, "state_dict": state}, tmp_path / "x.pth")
    network = load_network(tmp_path / "x.pth")
    assert network.spec.model == "ae-hrnet-custom" and network.spec.skeleton == "coco17"
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 64, 64)).keys() == {"heatmaps_4", "tags"}


@pytest.mark.parametrize(
    "listing",
    [
        "higherhrnet_w32",
        "classification_hrnet_w32",
        "original_higherhrnet_w32",
        "original_hrnet_w32_imagenet",
        "mmpose0x_higherhrnet_w32",
        "mmpose1x_ae_hrnet_w32",
    ],
)
def test_networks_of_full_size_are_recognised(names, listing):
    with torch.device("meta"):
        state = {n: torch.empty(s, dtype=getattr(torch, d)) for n, s, d in names[listing]["entries"]}
    assert match_hrnet(state)
    name = hrnet_from_state_dict(state).spec.model
    row = next(row for row in ZOO_ROWS if row.name == name)
    with torch.device("meta"):
        network = row.build()
    assert network.spec.licence == row.licence and network.spec.task == row.task
    assert sum(p.numel() for p in network.parameters()) == names[listing]["num_parameters"]


def test_counters_of_very_old_files_are_not_missed(pose):
    old = {name: tensor for name, tensor in pose.items() if not name.endswith("num_batches_tracked")}
    assert hrnet_from_state_dict(old).backbone.bn1.num_batches_tracked == 0


def test_saved_again(pose, tmp_path):
    network = hrnet_from_state_dict(pose, input_hw=(640, 640))
    again = load_network(save_network(network, tmp_path / "x.safetensors"))
    assert again.spec.input_hw == (640, 640) and again.spec.frame == network.spec.frame


def head(state: dict[str, Tensor], **tensors: Tensor) -> dict[str, Tensor]:
    """The trunk with another head."""
    trunk = {name: tensor for name, tensor in state.items() if name.startswith("backbone.")}
    return trunk | {name.replace("__", "."): tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("channels", [17, 18, 14])
def test_networks_without_a_tag_for_every_joint_are_refused(pose, channels):
    one = {"keypoint_head__final_layer__weight": torch.zeros(channels, 4, 1, 1)}
    with pytest.raises(CheckpointError, match=f"a tag for every joint, found {channels} channels;"):
        hrnet_from_state_dict(head(pose, **one))
    second = {"init_heatmaps_head.weight": torch.zeros(18, 4, 1, 1), "init_heatmaps_head.bias": torch.zeros(18)}
    with pytest.raises(CheckpointError, match="found 18 channels and 17 at the finer resolution"):
        hrnet_from_state_dict({**pose, **second})


def test_other_files_are_refused_in_a_sentence(pose, classes):
    with pytest.raises(CheckpointError, match="found one without; give a HigherHRNet or classification checkpoint"):
        hrnet_from_state_dict(head(pose))
    more = {"deconv_layers.1.deconv.0.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError, match="with more resolutions"):
        hrnet_from_state_dict({**pose, **more})
    with pytest.raises(CheckpointError, match="multiples of 32, found 500x512"):
        hrnet_from_state_dict(pose, input_hw=(500, 512))
    missing = {name: t for name, t in classes.items() if name != "classification_head.final_conv.0.bias"}
    with pytest.raises(CheckpointError, match=r"1 missing: classification_head\.final_conv\.0\.bias"):
        hrnet_from_state_dict(missing)
    width = "backbone.stages.0.transition_layer.transition_blocks.0.0.weight"
    part = {name: t for name, t in renamed_stage4(pose).items() if name != width}
    assert match_hrnet(part)
    with pytest.raises(CheckpointError, match="not complete"):
        hrnet_from_state_dict(part)
    for name in (width, "init_heatmaps_head.weight", "deconv_layers.0.final_layer.weight"):
        with pytest.raises(CheckpointError, match=f"no tensor {name} with sizes"):
            hrnet_from_state_dict({**pose, name: torch.tensor(1.0)})
    assert not match_hrnet({"backbone.pos_embed": torch.zeros(1)})


def renamed_stage4(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.replace("backbone.stages.3.blocks.0.scales_blocks", "backbone.stage4.0.branches"): tensor
        for name, tensor in state.items()
    }


def test_a_prefix_inside_a_name_is_kept(tmp_path, pose):
    state = {name.replace("backbone.", "backbone.net."): tensor for name, tensor in pose.items()}
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="expected the tensors of one of"):
        load_network(tmp_path / "x.pth")
