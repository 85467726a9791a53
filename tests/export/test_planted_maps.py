"""Errors a conversion could make, planted one at a time into small networks of the tasks with maps or classes.

As tests/export/test_planted_errors.py, but for the frame of `export`, which is the same for all tasks.
"""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from export.check import check
from export.compare import Expected
from export.gate import prepare
from lite.backends.eager_backend import EagerBackend, build_graph
from lite.backends.fold import fold_batch_norm
from lite.codecs.flip import FlipAverage
from lite.codecs.tag_grouping import MergeMirrored, find_candidates, read_tags, towards_higher
from lite.graph import PixelGraph
from lite.models.zoo import ZOO
from tests.export.lively import enliven
from tests.export.small_rows import shrink

LABELS, CLASSES, PEOPLE = "sapiens-0.3b-seg28", "hrnet-w32-imagenet1000", "higherhrnet-w32-coco17"
Plant = Callable[[PixelGraph], None]


class Decode(nn.Module):
    """A codec with something done to what goes in or comes out."""

    def __init__(
        self, codec: nn.Module, before: Callable = lambda *raw: raw, after: Callable = lambda *out: out
    ) -> None:
        super().__init__()
        self.codec, self.before, self.after = codec, before, after

    def decode(self, *raw: Tensor) -> Tensor | tuple[Tensor, ...]:
        decoded = self.codec.decode(*self.before(*raw))
        return self.after(*decoded) if isinstance(decoded, tuple) else self.after(decoded)[0]


def weight(graph: PixelGraph) -> nn.Parameter:
    """Of a layer across channels in the middle of the network."""
    weights = [p for p in graph.network.parameters() if p.ndim in (2, 4) and p.shape[1] >= 8]
    return weights[len(weights) // 2]


def one_layer_scaled(graph: PixelGraph) -> None:
    weight(graph).mul_(1.5)


def channels_permuted(graph: PixelGraph) -> None:
    weight(graph).copy_(weight(graph).roll(1, dims=1))


def mean_left_out(graph: PixelGraph) -> None:
    graph.offset.zero_()


def mean_in_the_other_order(graph: PixelGraph) -> None:
    graph.offset.copy_(graph.offset.flip(1) * graph.factor / graph.factor.flip(1))


def other_color_order(graph: PixelGraph) -> None:
    graph.spec = replace(graph.spec, color_order="BGR")
    graph.register_buffer("order", torch.tensor([2, 1, 0]), persistent=False)


def misread(maps: Tensor) -> Tensor:
    """Rows taken for columns."""
    return maps.transpose(-1, -2).reshape(maps.shape)


def maps_transposed(graph: PixelGraph) -> None:
    graph.codec = Decode(graph.codec, before=lambda *maps: [misread(one) for one in maps])


def two_channels_exchanged(graph: PixelGraph) -> None:
    def exchange(maps: Tensor) -> Tensor:
        order = list(range(maps.shape[1]))
        order[1], order[2] = 2, 1
        return maps[:, order]

    graph.codec = Decode(graph.codec, before=lambda *maps: [exchange(one) for one in maps])


def all_channels_moved_by_one(graph: PixelGraph) -> None:
    graph.codec = Decode(graph.codec, before=lambda *maps: [one.roll(1, 1) for one in maps])


def one_picture_for_all(graph: PixelGraph) -> None:
    graph.codec = Decode(graph.codec, before=lambda *maps: [one[:1].expand_as(one) for one in maps])


def sides_not_exchanged_in_the_flip_test(graph: PixelGraph) -> None:
    count = len(graph.merge_flip.order)
    graph.merge_flip = (FlipAverage if graph.spec.task == "segment" else MergeMirrored)(range(count))


def mirror_image_not_turned_back(graph: PixelGraph) -> None:
    merge = graph.merge_flip

    class Unturned(nn.Module):
        def forward(self, maps: Tensor | dict[str, Tensor], other: Tensor | dict[str, Tensor]) -> object:
            turned = {name: one.flip(3) for name, one in other.items()} if isinstance(other, dict) else other.flip(3)
            return merge(maps, turned)

    graph.merge_flip = Unturned()


def after(graph: PixelGraph, **changes: Callable[..., Tensor]) -> None:
    """Change outputs of a bottom-up decode by name; each change is given (that output, all outputs by name)."""
    names = ("keypoints", "scores", "tags", "heatmaps", "tag_maps")

    def change(*out: Tensor) -> tuple[Tensor, ...]:
        named = dict(zip(names, out))
        return tuple(changes[name](named[name], named) if name in changes else named[name] for name in names)

    graph.codec = Decode(graph.codec, after=change)


def coordinates_in_bfloat16(graph: PixelGraph) -> None:
    after(graph, keypoints=lambda x, _: x.bfloat16().float())


def scores_in_bfloat16(graph: PixelGraph) -> None:
    after(graph, scores=lambda x, _: x.bfloat16().float())


def candidates_found_in_bfloat16(graph: PixelGraph) -> None:
    """In maps of full size that were enlarged in bfloat16."""

    def rough(points: Tensor, scores: Tensor, tags: Tensor, heatmaps: Tensor, tag_maps: Tensor) -> tuple[Tensor, ...]:
        full = nn.functional.interpolate(heatmaps.bfloat16(), scale_factor=2.0, mode="bilinear").float()
        x, y, scores = find_candidates(full, scores.shape[2])
        return towards_higher(full, x, y), scores, read_tags(tag_maps, x, y), heatmaps, tag_maps

    graph.codec = Decode(graph.codec, after=rough)


def axes_exchanged(graph: PixelGraph) -> None:
    after(graph, keypoints=lambda x, _: x.flip(3))


def half_a_pixel_off(graph: PixelGraph) -> None:
    after(graph, keypoints=lambda x, _: x + 0.5)


def tags_of_the_next_candidate(graph: PixelGraph) -> None:
    after(graph, tags=lambda x, _: x.roll(1, 2))


def tags_of_another_keypoint(graph: PixelGraph) -> None:
    after(graph, tags=lambda x, _: x.roll(1, 1))


def tags_of_the_other_embedding(graph: PixelGraph) -> None:
    after(graph, tags=lambda x, _: x.flip(3))


def tag_maps_of_the_other_embedding(graph: PixelGraph) -> None:
    after(graph, tags=lambda x, _: x.flip(3), tag_maps=lambda x, _: x.flip(2))


def tags_of_the_nearest_cell(graph: PixelGraph) -> None:
    def nearest(tags: Tensor, out: dict[str, Tensor]) -> Tensor:
        cells = (out["keypoints"] / 4).floor().long()
        maps = out["tag_maps"]
        index = cells[..., 1] * maps.shape[4] + cells[..., 0]
        return maps.flatten(3).gather(3, index.unsqueeze(2).expand(-1, -1, maps.shape[2], -1)).transpose(2, 3)

    after(graph, tags=nearest)


def one_resolution_left_out(graph: PixelGraph) -> None:
    def alone(coarse: Tensor, fine: Tensor, tags: Tensor) -> tuple[Tensor, ...]:
        return torch.nn.functional.avg_pool2d(fine, 2), fine, tags

    graph.codec = Decode(graph.codec, before=alone)


def longer_inputs_are_cut(graph: PixelGraph) -> None:
    """What a program makes of them that was traced for one size."""
    network, (height, width) = graph.network, graph.spec.input_hw

    class Cut(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            whole = network(x[..., :height, :width])
            longer = x.shape[3] - width
            return {k: nn.functional.pad(v, (0, longer * v.shape[3] // width)) for k, v in whole.items()}

    graph.network = Cut()


def softmax_left_out(graph: PixelGraph) -> None:
    graph.codec = nn.Module()
    graph.codec.decode = lambda logits: logits


def softmax_over_the_batch(graph: PixelGraph) -> None:
    graph.codec = nn.Module()
    graph.codec.decode = lambda logits: logits.softmax(0)


def sigmoid_instead(graph: PixelGraph) -> None:
    graph.codec = nn.Module()
    graph.codec.decode = lambda logits: logits.sigmoid()


def softmax_in_bfloat16(graph: PixelGraph) -> None:
    graph.codec = nn.Module()
    graph.codec.decode = lambda logits: logits.bfloat16().softmax(1).float()


def logits_in_bfloat16(graph: PixelGraph) -> None:
    graph.codec = Decode(graph.codec, before=lambda logits: [logits.bfloat16().float()])


NETWORK = [
    one_layer_scaled,
    channels_permuted,
    mean_left_out,
    mean_in_the_other_order,
    other_color_order,
    two_channels_exchanged,
    all_channels_moved_by_one,
    one_picture_for_all,
]
FLIP = [sides_not_exchanged_in_the_flip_test, mirror_image_not_turned_back]
TASKS = {
    LABELS: [*NETWORK, *FLIP, maps_transposed, logits_in_bfloat16],
    CLASSES: [
        *NETWORK,
        softmax_left_out,
        softmax_over_the_batch,
        sigmoid_instead,
        softmax_in_bfloat16,
        logits_in_bfloat16,
    ],
    PEOPLE: [
        *NETWORK,
        *FLIP,
        maps_transposed,
        coordinates_in_bfloat16,
        scores_in_bfloat16,
        candidates_found_in_bfloat16,
        axes_exchanged,
        half_a_pixel_off,
        tags_of_the_next_candidate,
        tags_of_another_keypoint,
        tags_of_the_other_embedding,
        tag_maps_of_the_other_embedding,
        tags_of_the_nearest_cell,
        one_resolution_left_out,
        longer_inputs_are_cut,
    ],
}
WITH_FLIP = [*FLIP, tags_of_the_other_embedding, tag_maps_of_the_other_embedding]

# What rounds as the mode itself does, or less, cannot be told from it; both change no class.
NOT_FOUND = {
    (LABELS, "float16", logits_in_bfloat16),
    (LABELS, "bfloat16", logits_in_bfloat16),
    (CLASSES, "float16", logits_in_bfloat16),
    (CLASSES, "bfloat16", logits_in_bfloat16),
}
MODES = ("float32", "float16", "bfloat16")


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    with pytest.MonkeyPatch.context() as patch:
        return {name: enliven(shrink(ZOO[name]).build(patch)) for name in TASKS}


@pytest.fixture(scope="module")
def references() -> dict[tuple, Expected]:
    """What the gate compares with, made once for each network, mode and flip test."""
    return {}


@pytest.fixture
def passes(networks: dict[str, nn.Module], references: dict[tuple, Expected]) -> Callable[..., bool]:
    """`passes(name, mode, plant)`: the gate's word on a conversion that makes that error."""

    def passes(name: str, mode: str, plant: Plant | None) -> bool:
        flip_test = plant in WITH_FLIP
        key = (name, mode, flip_test)
        if key not in references:
            references[key], _ = prepare(
                copy.deepcopy(networks[name]), mode=mode, flip_test=flip_test, batch_max=3, check_images=None
            )
        network = copy.deepcopy(networks[name])
        fold_batch_norm(network)
        graph = build_graph(network, mode=mode, flip_test=flip_test)
        if plant is not None:
            with torch.no_grad():
                plant(graph)
        return check(EagerBackend(graph, torch.device("cpu"), "converted"), references[key])["passed"]

    return passes


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", TASKS)
def test_nothing_planted_passes(passes: Callable[..., bool], name: str, mode: str) -> None:
    assert passes(name, mode, None)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "plant"), [(name, plant) for name in TASKS for plant in TASKS[name]])
def test_planted_errors_are_found(passes: Callable[..., bool], name: str, plant: Plant, mode: str) -> None:
    assert passes(name, mode, plant) == ((name, mode, plant) in NOT_FOUND)
