"""The pixel graph against the original implementation, and the ways it can be asked to run."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lite.artifact import ArtifactSpec, CropRule
from lite.checkpoints import load_network
from lite.codecs import build_codec
from lite.codecs.flip import flip_average
from lite.errors import ModelError
from lite.geometry import transform_points, udp_to_frame
from lite.graph import PixelGraph, describe
from lite.skeletons import load_skeleton


def tiny(golden: Path, **changes: object) -> PixelGraph:
    network = load_network(golden / "sapiens/networks/pose_tiny.pth").requires_grad_(False)
    spec = replace(network.spec, **changes)
    merge = partial(flip_average, flip_indices=load_skeleton("coco17").flip_indices)
    return PixelGraph(network, build_codec(spec.codec), spec, merge).eval()


@pytest.fixture(scope="module")
def arrays(golden: Path) -> dict[str, np.ndarray]:
    return dict(np.load(golden / "sapiens/networks/pose_tiny.npz"))


@pytest.fixture(scope="module")
def pixels(arrays: dict[str, np.ndarray]) -> torch.Tensor:
    """(2, 64, 48, 3) uint8 RGB."""
    return torch.from_numpy(np.ascontiguousarray(arrays["image_bgr_a"][:, ::-1].transpose(0, 2, 3, 1)))


def test_normalise_gives_the_original_input(golden: Path, arrays: dict[str, np.ndarray], pixels: torch.Tensor) -> None:
    x = tiny(golden).normalise(pixels)
    np.testing.assert_allclose(x.numpy(), arrays["input_a"], atol=2e-6)
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_bgr_networks_get_bgr() -> None:
    spec = ArtifactSpec(
        task="detect", model="x", input_hw=(2, 2), mean=(1.0, 2.0, 3.0), std=(2.0, 4.0, 8.0), color_order="BGR"
    )
    x = PixelGraph(nn.Identity(), None, spec).normalise(
        torch.tensor([10, 20, 30], dtype=torch.uint8).expand(1, 2, 2, 3)
    )
    np.testing.assert_allclose(x[0, :, 0, 0], [(30 - 1) / 2, (20 - 2) / 4, (10 - 3) / 8], rtol=1e-6)


def test_heatmaps_are_the_originals(golden: Path, arrays: dict[str, np.ndarray], pixels: torch.Tensor) -> None:
    np.testing.assert_allclose(tiny(golden).heatmaps(pixels), arrays["heatmap_a"], atol=2e-4)
    flipped = tiny(golden, flip_test=True).heatmaps(pixels)
    np.testing.assert_allclose(flipped, arrays["heatmap_fliptest_a"], atol=2e-4)


def test_predictions_with_flip_test_are_the_originals(
    golden: Path, arrays: dict[str, np.ndarray], pixels: torch.Tensor
) -> None:
    outputs = tiny(golden, flip_test=True)(pixels)
    to_frame = udp_to_frame(arrays["pred_bbox_center"], arrays["pred_bbox_scale"], (64, 48))
    found = transform_points(outputs["keypoints"].numpy(), to_frame)
    positive = arrays["pred_scores"] > 0
    np.testing.assert_allclose(outputs["scores"].numpy(), arrays["pred_scores"], atol=2e-4)
    px = arrays["pred_bbox_scale"].max() / 48  # frame px per crop px
    np.testing.assert_allclose(found[positive], arrays["pred_keypoints"][positive], atol=0.02 * px)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_crop_does_not_depend_on_its_batch(golden: Path, count: int) -> None:
    graph = tiny(golden)
    crops = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (count, 64, 48, 3), dtype=np.uint8))
    together = graph(crops)
    assert together["keypoints"].shape == (count, 17, 2) and together["keypoints"].dtype == torch.float32
    for i in range(count):
        np.testing.assert_allclose(graph(crops[i : i + 1])["scores"][0], together["scores"][i], atol=1e-4)


def test_bfloat16_runs_the_network_alone(golden: Path, arrays: dict[str, np.ndarray], pixels: torch.Tensor) -> None:
    graph = tiny(golden, mode="bfloat16")
    graph.network.to(torch.bfloat16)
    heatmaps = graph.heatmaps(pixels)
    assert heatmaps.dtype == torch.bfloat16
    assert 1e-4 < np.abs(heatmaps.float().numpy() - arrays["heatmap_a"]).max() < 0.2
    outputs, exact = graph(pixels), graph.decode({"heatmaps": heatmaps.float()})
    for name in ("keypoints", "scores"):
        assert outputs[name].dtype == torch.float32
        assert torch.equal(outputs[name], exact[name])


def test_a_spec_says_how_much_arithmetic_a_crop_is(golden: Path) -> None:
    once, twice = describe(tiny(golden)), describe(tiny(golden, flip_test=True))
    assert twice.flops == 2 * once.flops
    assert twice.trunk_matrix == once.trunk_matrix
    rows, inner, columns = once.trunk_matrix
    assert 2 * rows * inner * columns < once.flops


def test_output_specs_need_no_run(golden: Path) -> None:
    graph = tiny(golden)
    names = [(output.name, output.shape, output.dtype, output.unit) for output in describe(graph).outputs]
    assert names == [("keypoints", ("N", 17, 2), "float32", "crop px"), ("scores", ("N", 17), "float32", "0..1")]


class TwoLevels(nn.Module):
    """Class logits that are high in one cell, and distances of 4 px each way."""

    def forward(self, x: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        cls = [x.mean(1, keepdim=True)[:, :, ::stride, ::stride] for stride in (8, 16)]
        return {"cls": cls, "reg": [torch.full_like(level.expand(-1, 4, -1, -1), 4.0) for level in cls]}


def test_detection() -> None:
    codec = {"name": "point_boxes", "strides": [8, 16], "person_label": 0, "max_candidates": 10, "score_thr": 0.5}
    spec = ArtifactSpec(task="detect", model="x", input_hw=(32, 64), mean=(100.0,) * 3, std=(10.0,) * 3, codec=codec)
    graph = PixelGraph(TwoLevels(), build_codec(codec), spec)
    pixels = torch.zeros(2, 32, 64, 3, dtype=torch.uint8)
    pixels[1, 8, 24] = 200  # cell (x 3, y 1) of stride 8
    outputs = graph(pixels)
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "boxes": (2, 10, 4), "scores": (2, 10), "labels": (2, 10),
    }  # fmt: skip
    assert (outputs["scores"] > 0).sum(1).tolist() == [0, 1]
    np.testing.assert_allclose(outputs["boxes"][1, 0], [20, 4, 28, 12])
    assert outputs["labels"].dtype == torch.int64


def test_a_flip_test_needs_pairs_and_heatmaps() -> None:
    spec = ArtifactSpec(task="detect", model="x", input_hw=(32, 32), mean=(0.0,) * 3, std=(1.0,) * 3, flip_test=True)
    with pytest.raises(ModelError, match="flip"):
        PixelGraph(nn.Identity(), None, spec, merge_flip=lambda a, b: a)
    with pytest.raises(ModelError, match="flip"):
        PixelGraph(nn.Identity(), None, replace(spec, task="pose", crop=CropRule()))


def test_tasks_that_have_no_graph_are_refused() -> None:
    spec = ArtifactSpec(task="features", model="x", input_hw=(32, 32), mean=(0.0,) * 3, std=(1.0,) * 3)
    with pytest.raises(ModelError, match="segment"):
        PixelGraph(nn.Identity(), None, spec)
