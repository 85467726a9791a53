"""Which batches are replayed, how they are padded, and that nothing of one call is seen in the next."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from lite.artifact import ArtifactSpec
from lite.backends.cuda_graphs import CudaGraphs, bucket, graph_limit
from lite.backends.torch_module import TorchModuleBackend
from lite.backends.transfer import Transfer
from lite.errors import DeviceMemoryError
from lite.graph import PixelGraph

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("input_hw", "batch_max", "limit"),
    [((256, 192), 1024, 64), ((256, 192), 12, 8), ((1024, 768), 64, 4), ((640, 640), 64, 8), ((4096, 4096), 64, 0)],
)
def test_small_batches_are_replayed(
    toy_graph: PixelGraph, input_hw: tuple[int, int], batch_max: int, limit: int
) -> None:
    assert graph_limit(replace(toy_graph.spec, input_hw=input_hw, batch_range=(1, batch_max))) == limit


def test_batches_are_padded_to_the_next_power_of_two() -> None:
    assert [bucket(count) for count in (1, 2, 3, 4, 5, 8, 9, 64)] == [1, 2, 4, 4, 8, 8, 16, 64]


def recorded_on_the_cpu(self: CudaGraphs, size: int) -> tuple[Callable[[], None], Tensor, dict[str, Tensor]]:
    """As a CUDA graph: the same memory is read and written by every replay."""
    given = torch.zeros((size, *self.input_hw, 3), dtype=torch.uint8)
    outputs = {name: value.clone() for name, value in self.module(given).items()}

    def replay() -> None:
        for name, value in self.module(given).items():
            outputs[name].copy_(value)

    return replay, given, outputs


@pytest.fixture
def graphs(toy_graph: PixelGraph, monkeypatch: pytest.MonkeyPatch) -> CudaGraphs:
    monkeypatch.setattr(CudaGraphs, "record", recorded_on_the_cpu)
    return CudaGraphs(toy_graph, toy_graph.spec.input_hw, 4, CPU)


@torch.inference_mode()
def test_a_size_that_cannot_be_recorded_later_runs_as_it_is(toy_graph, graphs, monkeypatch) -> None:
    def one_only(self: CudaGraphs, size: int):
        if size > 1:
            raise RuntimeError("operation not permitted when stream is capturing")
        return recorded_on_the_cpu(self, size)

    monkeypatch.setattr(CudaGraphs, "record", one_only)
    for count in (1, 3, 4, 1):
        pixels = torch.zeros((count, 32, 24, 3), dtype=torch.uint8)
        torch.testing.assert_close(graphs(pixels)["keypoints"], toy_graph(pixels)["keypoints"])
    assert (sorted(graphs.recorded), graphs.limit) == ([1], 2)


@torch.inference_mode()
def test_padding_and_earlier_calls_change_nothing(toy_graph: PixelGraph, graphs: CudaGraphs) -> None:
    rng = np.random.default_rng(0)
    found, expected = [], []
    for count in (4, 3, 1, 2, 3, 5, 4):
        pixels = torch.from_numpy(rng.integers(0, 256, (count, 32, 24, 3), dtype=np.uint8))
        found.append(graphs(pixels))
        expected.append(toy_graph(pixels))
    for one, other in zip(found, expected, strict=True):  # all together, so that an overwritten output is seen
        for name in other:
            torch.testing.assert_close(one[name], other[name], atol=1e-4, rtol=1e-4)
    assert sorted(graphs.recorded) == [1, 2, 4], "a batch of five is over the limit and run as it is"


def test_a_backend_says_whether_it_replays(
    toy_graph: PixelGraph, graphs: CudaGraphs, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = TorchModuleBackend(toy_graph, toy_graph.spec, CPU, "eager float32")
    plain = backend.describe
    pixels = np.random.default_rng(1).integers(0, 256, (3, 32, 24, 3), dtype=np.uint8)
    expected = backend.run(pixels)
    backend.use_graphs(4)
    assert backend.describe == f"{plain}, CUDA graphs up to batch 4"
    np.testing.assert_allclose(backend.run(pixels)["keypoints"], expected["keypoints"], atol=1e-4)
    backend.use_graphs(0)
    assert backend.describe == plain

    def refuse(self: CudaGraphs, size: int) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore of it")

    monkeypatch.setattr(CudaGraphs, "record", refuse)
    backend.use_graphs(4)
    assert backend.describe == f"{plain}, without CUDA graphs (operation not permitted when stream is capturing)"
    np.testing.assert_array_equal(backend.run(pixels)["keypoints"], expected["keypoints"])


class Full(torch.nn.Module):
    """A device whose memory holds two crops."""

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        if len(pixels) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return {"scores": pixels.float().mean((1, 2, 3))}


def test_too_many_crops_for_the_memory_are_a_sentence_and_not_the_end(toy_graph: PixelGraph) -> None:
    backend = TorchModuleBackend(Full(), toy_graph.spec, CPU, "eager float32")
    with pytest.raises(
        DeviceMemoryError, match="toy: 3 crops at once need more memory than cpu has free; use a smaller"
    ):
        backend.run(np.zeros((3, 32, 24, 3), np.uint8))
    assert len(backend.run(np.zeros((2, 32, 24, 3), np.uint8))["scores"]) == 2


def test_memory_too_small_for_one_crop_is_not_taken_for_a_graph_that_cannot_be_recorded(
    toy_graph: PixelGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: CudaGraphs, size: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(CudaGraphs, "record", full)
    backend = TorchModuleBackend(toy_graph, toy_graph.spec, CPU, "eager float32")
    with pytest.raises(DeviceMemoryError):
        backend.use_graphs(4)


def test_crops_go_and_outputs_come_back(toy_graph: PixelGraph) -> None:
    spec: ArtifactSpec = toy_graph.spec
    transfer = Transfer(CPU)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 24, 3), dtype=np.uint8)[:, ::-1]  # not contiguous
    with transfer.in_use(spec, 2):
        back = transfer.take({"pixels": transfer.give(transfer.stage(pixels))})
    np.testing.assert_array_equal(back["pixels"], pixels)
    assert transfer.handle == 0
