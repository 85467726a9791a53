"""Errors a conversion could make, planted one at a time into the shipped pair: each ends with status 1 and no file.

The whole of `export` runs but for the conversion itself: the file that is "written" is a graph with the error in it,
"opened" as an eager backend.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from export import gate, pipeline
from export.compare import Expected
from export.config import ExportConfig
from export.written import Written
from lite.backends.eager_backend import EagerBackend, build_graph
from lite.backends.fold import fold_batch_norm
from lite.checkpoints import load_network
from lite.codecs.flip import FlipAverage
from lite.graph import PixelGraph

BATCH = 4
Plant = Callable[[PixelGraph], None]


class Decode(nn.Module):
    """A codec with something done to what goes in or comes out."""

    def __init__(self, codec: nn.Module, before: Callable = lambda *raw: raw, after: Callable = lambda x: x) -> None:
        super().__init__()
        self.codec, self.before, self.after = codec, before, after

    def decode(self, *raw: Tensor) -> tuple[Tensor, ...]:
        first, *rest = self.codec.decode(*self.before(*raw))
        return self.after(first), *rest


def weight(graph: PixelGraph, number: float) -> nn.Parameter:
    """The 4-d weight of a convolution across channels, `number` of the way through the network."""
    weights = [p for p in graph.network.parameters() if p.ndim == 4 and p.shape[1] >= 16]
    return weights[int(number * len(weights))]


def one_layer_scaled(graph: PixelGraph) -> None:
    weight(graph, 0.5).mul_(1.5)


def channels_permuted(graph: PixelGraph) -> None:
    weight(graph, 0.5).copy_(weight(graph, 0.5).roll(1, dims=1))


def two_channels_exchanged(graph: PixelGraph) -> None:
    """In bfloat16 the detector's own rounding hides it."""
    found = weight(graph, 0.5)
    largest = found.abs().sum((0, 2, 3)).topk(2).indices
    found[:, largest] = found[:, largest.flip(0)]


def kernels_transposed(graph: PixelGraph) -> None:
    for parameter in graph.network.parameters():
        if parameter.ndim == 4:
            parameter.copy_(parameter.transpose(2, 3).clone())


def axes_exchanged(graph: PixelGraph) -> None:
    points = graph.spec.task == "pose"
    graph.codec = Decode(graph.codec, after=lambda x: x.flip(2) if points else x[..., [1, 0, 3, 2]])


def mean_left_out(graph: PixelGraph) -> None:
    graph.offset.zero_()


def mean_in_the_other_order(graph: PixelGraph) -> None:
    graph.offset.copy_(graph.offset.flip(1) * graph.factor / graph.factor.flip(1))


def other_color_order(graph: PixelGraph) -> None:
    graph.spec = replace(graph.spec, color_order="RGB" if graph.spec.color_order == "BGR" else "BGR")
    graph.register_buffer("order", torch.tensor([2, 1, 0]), persistent=False)


def coordinates_in_bfloat16(graph: PixelGraph) -> None:
    graph.codec = Decode(graph.codec, after=lambda x: x.bfloat16().float())


def index_in_bfloat16(graph: PixelGraph) -> None:
    """The place of the peak, counted through the map, in bfloat16: the map is moved to where that points."""

    def move(heatmaps: Tensor) -> tuple[Tensor]:
        maps = heatmaps.flatten(0, 1)
        index = maps.flatten(1).argmax(1)
        off = index.bfloat16().long() - index
        return (torch.stack([m.flatten().roll(int(o)).view_as(m) for m, o in zip(maps, off)]).view_as(heatmaps),)

    graph.codec = Decode(graph.codec, before=move)


def two_keypoints_exchanged(graph: PixelGraph) -> None:
    order = [*range(15), 16, 15]  # the ankles
    graph.codec = Decode(graph.codec, before=lambda heatmaps: (heatmaps[:, order],))


def sides_not_exchanged_in_the_flip_test(graph: PixelGraph) -> None:
    graph.merge_flip = FlipAverage(range(17))


# In bfloat16 the detector's own distances are as coarse as rounded boxes; float16 would show them.
COMMON = [
    one_layer_scaled,
    channels_permuted,
    kernels_transposed,
    axes_exchanged,
    mean_left_out,
    mean_in_the_other_order,
    other_color_order,
    coordinates_in_bfloat16,
]
POSE = [*COMMON, index_in_bfloat16, two_keypoints_exchanged, sides_not_exchanged_in_the_flip_test]


@pytest.fixture(scope="module")
def references() -> dict[tuple, Expected]:
    """What the gate compares with, made once for each network and mode."""
    return {}


@pytest.fixture
def attempt(references: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`attempt(model, mode, plant)`: the exit status of an export whose conversion makes that error."""

    def attempt(model: str, mode: str, plant: Plant | None, flip_test: bool = False) -> int:
        key = (model, mode, flip_test)

        def prepare(network: nn.Module, **settings: object) -> tuple[Expected, PixelGraph]:
            if key not in references:
                references[key], _ = gate.prepare(load_network(model), **settings)
            fold_batch_norm(network)
            return references[key], build_graph(network, mode=mode, flip_test=flip_test)

        def write(graph: PixelGraph, path: Path, *rest: object) -> Written:
            path.touch()
            if plant is not None:
                with torch.no_grad():
                    plant(graph)
            backend = EagerBackend(graph, torch.device("cpu"), "converted")
            monkeypatch.setattr(gate, "open_backend", lambda *args, **kwargs: backend)
            return Written()

        monkeypatch.setattr(pipeline, "prepare", prepare)
        monkeypatch.setattr(pipeline, "_writer", lambda name: write)
        config = ExportConfig(
            model=model, mode=mode, flip_test=flip_test, batch_max=BATCH, output=str(tmp_path / "x.pt2")
        )
        return pipeline.export(config)

    return attempt


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("mode", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("model", ["pose17-small", "person-nano"])
def test_nothing_planted_passes(attempt: Callable, tmp_path: Path, model: str, mode: str) -> None:
    assert attempt(model, mode, None) == 0
    assert left_in(tmp_path) == ["x.pt2", "x.pt2.json"]


@pytest.mark.parametrize("mode", ["float32", "bfloat16"])
@pytest.mark.parametrize("plant", POSE, ids=lambda plant: plant.__name__)
def test_pose(attempt: Callable, tmp_path: Path, plant: Plant, mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert attempt("pose17-small", mode, plant, flip_test=plant is sides_not_exchanged_in_the_flip_test) == 1
    assert left_in(tmp_path) == [] and "FAILED" in capsys.readouterr().out


@pytest.mark.parametrize("mode", ["float32", "bfloat16"])
@pytest.mark.parametrize("plant", COMMON, ids=lambda plant: plant.__name__)
def test_detection(
    attempt: Callable, tmp_path: Path, plant: Plant, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if plant is coordinates_in_bfloat16 and mode == "bfloat16":
        mode = "float16"
    assert attempt("person-nano", mode, plant) == 1
    assert left_in(tmp_path) == [] and "FAILED" in capsys.readouterr().out


@pytest.mark.parametrize("model", ["pose17-small", "person-nano"])
def test_in_float32_two_channels_are_enough(attempt: Callable, model: str) -> None:
    assert attempt(model, "float32", two_channels_exchanged) == 1


@pytest.mark.parametrize(("factor", "caught"), [(1.01, True), (1.001, False)])
def test_the_smallest_change_of_one_layer_that_shows(attempt: Callable, factor: float, caught: bool) -> None:
    def scaled(graph: PixelGraph) -> None:
        weight(graph, 0.5).mul_(factor)

    assert attempt("pose17-small", "float32", scaled) == caught
