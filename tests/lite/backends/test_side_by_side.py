"""A batch in parts gives what the whole gives, in order, and leaves the number of threads as it was."""

import threading
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from lite.backends.side_by_side import CROPS_EACH, SideBySide


class Graph(nn.Module):
    """Sums of the crops; remembers what it was given and by whom."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, str, int]] = []

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        self.seen.append((len(pixels), threading.current_thread().name, torch.get_num_threads()))
        if (pixels == 255).all():
            raise RuntimeError("white")
        sums = pixels.float().sum(dim=(1, 2, 3))
        return {"keypoints": sums[:, None].expand(-1, 2), "scores": sums}


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def crops(count: int) -> Tensor:
    return torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(-1, 4, 3, 3).contiguous()


@pytest.mark.usefixtures("two_threads")
@torch.inference_mode()
def test_parts_come_back_in_order():
    graph = Graph()
    wrapped = SideBySide(graph)
    for count in (2 * CROPS_EACH, 2 * CROPS_EACH + 1, 100):
        graph.seen.clear()
        outputs = wrapped(crops(count))
        assert outputs["scores"].tolist() == [36.0 * n for n in range(count)]
        assert outputs["keypoints"].shape == (count, 2)
        assert sorted(size for size, _, _ in graph.seen) == [count // 2, count - count // 2]
        assert {threads for _, _, threads in graph.seen} == {1}
        assert all(name.startswith("crops") for _, name, _ in graph.seen)
    assert torch.get_num_threads() == 2
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [2]


@pytest.mark.usefixtures("two_threads")
@torch.inference_mode()
def test_small_batches_and_single_threads_stay_whole():
    graph = Graph()
    wrapped = SideBySide(graph)
    assert len(wrapped(crops(2 * CROPS_EACH - 1))["scores"]) == 2 * CROPS_EACH - 1
    torch.set_num_threads(1)
    wrapped(crops(100))
    assert [(size, name) for size, name, _ in graph.seen] == [
        (2 * CROPS_EACH - 1, "MainThread"), (100, "MainThread"),
    ]  # fmt: skip


@pytest.mark.usefixtures("two_threads")
@torch.inference_mode()
def test_an_error_in_a_part_is_the_batchs():
    with pytest.raises(RuntimeError, match="white"):
        SideBySide(Graph())(torch.full((50, 4, 3, 3), 255, dtype=torch.uint8))


def test_large_crops_are_not_split(toy_graph):
    assert SideBySide.suits(toy_graph.spec)
    assert SideBySide.suits(replace(toy_graph.spec, input_hw=(384, 288)))
    assert not SideBySide.suits(replace(toy_graph.spec, input_hw=(1024, 768)))
