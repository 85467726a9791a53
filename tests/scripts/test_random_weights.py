"""Made-up weights: nothing in them is trivial, they load, and heatmaps have peaks to compare."""

import importlib.util
from dataclasses import replace
from types import ModuleType

import pytest
import torch
from torch import nn

from lite.backends.eager_backend import build_graph
from lite.checkpoints import load_network
from lite.errors import ModelError
from lite.models import sapiens, vitpose


@pytest.fixture(scope="module")
def script(root):
    location = importlib.util.spec_from_file_location("random_weights", root / "scripts/random_weights.py")
    module = importlib.util.module_from_spec(location)
    location.loader.exec_module(module)
    return module


def small(family: str) -> nn.Module:
    """A network of the family with an input of 128 x 96 px."""
    module = {"sapiens": sapiens, "classic": vitpose, "simple": vitpose}[family]
    sizes = module.TrunkSizes(width=64, depth=3, num_heads=4, hidden=128, grid_hw=(8, 6))
    if family == "sapiens":
        network = sapiens.SapiensPose(sizes, 17, (32, 32), (32,))
        network.spec = sapiens.pose_spec("sapiens-custom", (128, 96), 17, "coco17")
        network.spec = replace(network.spec, codec=network.spec.codec | {"sigma": 2.0})
    else:
        network = vitpose.ViTPose(sizes, 17, (48, 48) if family == "classic" else None)
        network.spec = vitpose.pose_spec("vitpose-custom", (128, 96), 17, "coco17")
    network.hints = module.hints(sizes)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("family", ["sapiens", "classic", "simple"])
def test_no_tensor_is_trivial_and_peaks_are_clear(script: ModuleType, family: str, tmp_path) -> None:
    network = small(family)
    script.settle(network, seed=3)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            assert torch.isfinite(tensor).all() and tensor.abs().max() < 100, name
            assert tensor.unique().numel() > 0.9 * tensor.numel(), name
    path = tmp_path / "x.safetensors"
    script.write(network, path)
    graph = build_graph(load_network(path))
    assert graph.spec.codec == network.spec.codec
    pixels = torch.from_numpy(script.check_crops(graph.spec, None, 4))
    heatmaps = graph.heatmaps(pixels)
    torch.testing.assert_close(
        heatmaps, network(script.normalised(network, pixels.numpy()))["heatmaps"], atol=1e-4, rtol=0
    )
    keypoints, scores = graph.codec.decode(heatmaps)
    assert scores.min() > 0.2 and scores.max() < 2
    assert (keypoints[0] - keypoints[1]).norm(dim=1).median() > 4  # another photograph, another pose
    rounded = build_graph(load_network(path), mode="bfloat16").heatmaps(pixels)
    moved = (graph.codec.decode(rounded)[0] - keypoints).norm(dim=2)
    assert (moved < 2).float().mean() > 0.7


def test_the_seed_decides(script: ModuleType) -> None:
    networks = [small("simple") for _ in range(3)]
    for network, seed in zip(networks, (0, 0, 1)):
        script.settle(network, seed)
    first, again, other = (network.keypoint_head.final_layer.weight for network in networks)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_networks_with_weights_of_their_own_are_refused(script: ModuleType) -> None:
    with pytest.raises(ModelError, match="lite-hrnet"):
        script.random_network("pose17-small", 0)
