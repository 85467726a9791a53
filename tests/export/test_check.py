"""The comparison: equal networks pass in every mode, results that are wrong, missing or invented do not."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from export.check import FAR, TASKS, check, reference, with_rounding
from export.compare import Expected
from export.crops import check_crops
from export.limits import LIMITS, RELATIVE, ROUNDING, limits_of
from lite.backends.eager_backend import EagerBackend, build_graph
from lite.check_report import report_lines
from lite.checkpoints import load_network
from lite.graph import OUTPUTS, PixelGraph
from lite.skeletons import load_skeleton

SIGMAS = np.asarray(load_skeleton("coco17").oks_sigmas)
MODES = ("float32", "bfloat16")
CPU = torch.device("cpu")
Make = Callable[[], nn.Module]


def backend(graph: PixelGraph) -> EagerBackend:
    return EagerBackend(graph, CPU, "as asked")


def expectation(make: Make, crops: np.ndarray, mode: str) -> Expected:
    expected = reference(build_graph(make()), crops, mode, SIGMAS)
    return with_rounding(expected, build_graph(make(), mode=mode))


@pytest.fixture(scope="module")
def cached() -> dict[str, Expected]:
    return {}


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def expected(cached: dict, network: Make, crops: np.ndarray, mode: str) -> Expected:
    if mode not in cached:
        cached[mode] = expectation(network, crops, mode)
    return cached[mode]


def test_every_task_has_limits_for_every_mode_and_measures_them() -> None:
    assert set(TASKS) == set(LIMITS) == set(OUTPUTS)
    for task, modes in LIMITS.items():
        assert set(modes) == {"float32", "float16", "bfloat16", "int8"}
        assert all(set(limits) == set(modes["float32"]) for limits in modes.values())
        assert set(RELATIVE) & set(modes["float32"]), task


def test_half_of_the_results_may_shift_little_more_than_rounding_alone() -> None:
    limits = limits_of("pose", "bfloat16", {"shift_p50_px": 0.1}, 256)
    assert limits["shift_p50_px"] == pytest.approx(0.1 * ROUNDING + RELATIVE["shift_p50_px"])
    assert limits_of("pose", "bfloat16", {"shift_p50_px": FAR}, 256) == limits_of("pose", "bfloat16", None, 64)
    assert limits_of("pose", "int8", {"shift_p50_px": 0.0}, 256) == LIMITS["pose"]["int8"]


def test_shifts_may_grow_with_the_crop_and_nothing_else() -> None:
    small, large = (limits_of("pose", "float32", None, height) for height in (256, 1024))
    assert large == {name: limit * (4 if name.endswith("_px") else 1) for name, limit in small.items()}
    assert limits_of("detect", "float32", None, 1024) == LIMITS["detect"]["float32"]


@pytest.mark.parametrize("mode", ["float32", "float16", "bfloat16"])
def test_the_same_network_passes(network: Make, crops: np.ndarray, mode: str) -> None:
    expected = expectation(network, crops, mode)
    report = check(backend(build_graph(network(), mode=mode)), expected)
    assert report["passed"] and report["failures"] == []
    assert (
        report["batches"] == [1, 3, 6] and report["checked_with"] == f"sapiens-custom, eager {mode} (as asked) on cpu"
    )
    assert report["of"] == 6 * 17 == report["compared"] + sum(report["left_out"].values())
    assert report["compared"] > 20
    assert (report["rounding"] is None) == (mode == "float32")
    text = "\n".join(report_lines(report))
    assert all(name in text for name in LIMITS["pose"][mode]) and f"compared {report['compared']} of 102" in text


def test_bfloat16_is_further_than_float32(network: Make, expected: Expected, mode: str) -> None:
    found = check(backend(build_graph(network(), mode=mode)), expected)["shift_max_px"]
    assert (found < 1e-3) == (mode == "float32")


def test_the_largest_batch_of_a_file_is_tried(network: Make, crops: np.ndarray) -> None:
    expected = expectation(network, crops, "float32")
    made = backend(build_graph(network()))
    made.spec = replace(made.spec, format="pt2", batch_range=(1, 9))
    report = check(made, expected)
    assert report["passed"] and report["batches"] == [1, 3, 6, 9]
    run = made.run
    made.run = lambda pixels: {n: v if len(v) < 9 else np.roll(v, 1, axis=0) for n, v in run(pixels).items()}
    assert not check(made, expected)["passed"]
    made.spec = replace(made.spec, batch_range=(1, 10**6))
    assert check(made, expected)["batches"] == [1, 3, 6], "that would take long"


class Changed(EagerBackend):
    """Gives other outputs than its graph."""

    def __init__(self, graph: PixelGraph, change: Callable[[dict[str, np.ndarray]], None]) -> None:
        super().__init__(graph, CPU, "changed")
        self.change = change

    def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        outputs = {name: value.copy() for name, value in super().run(pixels).items()}
        self.change(outputs)
        return outputs


def test_nan_is_caught(network: Make, expected: Expected, mode: str) -> None:
    def nan(outputs: dict[str, np.ndarray]) -> None:
        outputs["keypoints"][:] = np.nan

    report = check(Changed(build_graph(network(), mode=mode), nan), expected)
    assert not report["passed"]
    assert all(np.isfinite(report[name]) for name in report["limits"])  # JSON has no NaN


def test_an_error_in_one_batch_size_alone_is_caught(network: Make, expected: Expected, mode: str) -> None:
    def in_threes(outputs: dict[str, np.ndarray]) -> None:
        outputs["keypoints"] += 20 * (len(outputs["scores"]) == 3)

    assert not check(Changed(build_graph(network(), mode=mode), in_threes), expected)["passed"]


def test_flat_heatmaps_leave_nothing_to_compare(network: Make, crops: np.ndarray, mode: str) -> None:
    def flat() -> nn.Module:
        made = network()
        for weight in made.head.parameters():
            weight.requires_grad_(False).zero_()
        return made

    report = check(backend(build_graph(flat(), mode=mode)), expectation(flat, crops, mode))
    assert report["failures"] == ["only 0 of 102 results are clear enough to compare; give --check-images with people"]
    assert report["left_out"]["without a peak"] == 102


def detector() -> nn.Module:
    return load_network("person-nano")


@pytest.fixture(scope="module")
def detected() -> dict[str, Expected]:
    crops = check_crops(detector().spec, None, 4)
    return {mode: expectation(detector, crops, mode) for mode in MODES}


def test_detection(detected: dict[str, Expected], mode: str) -> None:
    report = check(backend(build_graph(detector(), mode=mode)), detected[mode])
    assert report["passed"] and report["compared"] > 5
    assert report["of"] == report["compared"] + sum(report["left_out"].values())


def lost(outputs: dict[str, np.ndarray]) -> None:
    outputs["scores"][:] = 0


def invented(outputs: dict[str, np.ndarray]) -> None:
    outputs["boxes"][:, -1], outputs["scores"][:, -1] = [1, 1, 9, 9], 0.9


def renamed(outputs: dict[str, np.ndarray]) -> None:
    outputs["labels"] += 1


@pytest.mark.parametrize("change", [lost, invented, renamed])
def test_lost_and_invented_boxes_are_caught(detected: dict[str, Expected], mode: str, change: Callable) -> None:
    assert not check(Changed(build_graph(detector(), mode=mode), change), detected[mode])["passed"]
