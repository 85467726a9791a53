"""The gate lets equal networks pass and catches planted errors, in every mode."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from export.check import LIMITS, Reference, check, reference, report_lines
from lite.backends.eager_backend import EagerBackend, build_graph
from lite.checkpoints import load_network
from lite.graph import PixelGraph
from lite.skeletons import load_skeleton

SIGMAS = np.asarray(load_skeleton("coco17").oks_sigmas)
MODES = ("float32", "bfloat16")
Make = Callable[[], nn.Module]


def backend(graph: PixelGraph) -> EagerBackend:
    return EagerBackend(graph, torch.device("cpu"), "as asked")


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def expected(network: Make, crops: np.ndarray, mode: str) -> Reference:
    return reference(build_graph(network()), crops, mode, SIGMAS)


def test_the_same_network_passes(network: Make, expected: Reference, mode: str) -> None:
    report = check(backend(build_graph(network(), mode=mode)), expected)
    assert report["passed"] and report["failures"] == []
    assert report["batches"] == [1, 3, 6] and report["limits"] == LIMITS["pose"][mode]
    assert 0 < report["compared"] < report["of"] == 6 * 17
    assert any("shift_max_px" in line for line in report_lines(report))


def test_bfloat16_is_further_than_float32(network: Make, crops: np.ndarray) -> None:
    expected = reference(build_graph(network()), crops, "bfloat16", SIGMAS)
    rough = check(backend(build_graph(network(), mode="bfloat16")), expected)["shift_max_px"]
    exact = check(backend(build_graph(network())), expected)["shift_max_px"]
    assert exact < 1e-3 < rough


def _weight(network: nn.Module) -> nn.Module:
    with torch.no_grad():
        next(weight for name, weight in network.named_parameters() if name.endswith("qkv.weight")).mul_(1.3)
    return network


def _mean(network: nn.Module) -> nn.Module:
    network.spec = replace(network.spec, mean=(0.0, 0.0, 0.0))
    return network


def _color_order(network: nn.Module) -> nn.Module:
    network.spec = replace(network.spec, color_order="BGR")
    return network


@pytest.mark.parametrize("plant", [_weight, _mean, _color_order])
def test_planted_errors_are_caught(network: Make, expected: Reference, mode: str, plant: Callable) -> None:
    report = check(backend(build_graph(plant(network()), mode=mode)), expected)
    assert not report["passed"]
    assert "shift_p95_px" in " ".join(report["failures"])


class SwappedAxes(nn.Module):
    def __init__(self, codec: nn.Module) -> None:
        super().__init__()
        self.codec = codec

    def decode(self, heatmaps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        keypoints, scores = self.codec.decode(heatmaps)
        return keypoints.flip(2), scores


def test_swapped_axes_are_caught(network: Make, expected: Reference, mode: str) -> None:
    graph = build_graph(network(), mode=mode)
    graph.codec = SwappedAxes(graph.codec)
    assert not check(backend(graph), expected)["passed"]


def test_nan_is_caught(network: Make, expected: Reference, mode: str) -> None:
    class Broken(EagerBackend):
        def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
            outputs = super().run(pixels)
            outputs["keypoints"][:] = np.nan
            return outputs

    report = check(Broken(build_graph(network(), mode=mode), torch.device("cpu"), ""), expected)
    assert not report["passed"]
    assert all(np.isfinite(report[name]) for name in report["limits"])  # JSON has no NaN


def test_an_error_in_one_batch_size_alone_is_caught(network: Make, expected: Reference, mode: str) -> None:
    class Odd(EagerBackend):
        def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
            outputs = super().run(pixels)
            if len(pixels) == 3:
                outputs["keypoints"] += 20
            return outputs

    assert not check(Odd(build_graph(network(), mode=mode), torch.device("cpu"), ""), expected)["passed"]


def test_flat_heatmaps_leave_nothing_to_compare(network: Make, crops: np.ndarray, mode: str) -> None:
    def flat() -> PixelGraph:
        graph = build_graph(network(), mode=mode)
        for weight in graph.network.head.parameters():
            weight.zero_()
        return graph

    reference_graph = build_graph(network())
    for weight in reference_graph.network.head.parameters():
        weight.zero_()
    report = check(backend(flat()), reference(reference_graph, crops, mode, SIGMAS))
    assert report["failures"] == ["only 0 of 102 results are clear enough to compare; give --check-images with people"]


@pytest.fixture(scope="module")
def detector_crops() -> np.ndarray:
    from export.crops import check_crops

    return check_crops(load_network("person-nano").spec, None, 12)


def test_detection(detector_crops: np.ndarray, mode: str) -> None:
    expected = reference(build_graph(load_network("person-nano")), detector_crops, mode, SIGMAS)
    report = check(backend(build_graph(load_network("person-nano"), mode=mode)), expected)
    assert report["passed"] and report["compared"] > 5
    assert report["iou_min"] > 0.9
    for plant in (_mean, _detector_weight):
        wrong = check(backend(build_graph(plant(load_network("person-nano")), mode=mode)), expected)
        assert not wrong["passed"], plant


def _detector_weight(network: nn.Module) -> nn.Module:
    with torch.no_grad():
        network.bbox_head.rtm_reg[2].weight.mul_(1.5)
    return network


def test_lost_and_invented_boxes_are_caught(detector_crops: np.ndarray, mode: str) -> None:
    expected = reference(build_graph(load_network("person-nano")), detector_crops, mode, SIGMAS)

    class Lost(EagerBackend):
        def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
            outputs = super().run(pixels)
            outputs["scores"][:] = 0
            return outputs

    class Invented(EagerBackend):
        def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
            outputs = super().run(pixels)
            outputs["boxes"][:, -1], outputs["scores"][:, -1] = [1, 1, 9, 9], 0.9
            return outputs

    for kind in (Lost, Invented):
        graph = build_graph(load_network("person-nano"), mode=mode)
        assert not check(kind(graph, torch.device("cpu"), ""), expected)["passed"], kind
