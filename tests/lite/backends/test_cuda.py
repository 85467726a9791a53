"""What only a GPU shows: its numbers, recorded graphs, float32 that is float32, and code for another GPU refused."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from export.config import ExportConfig
from export.crops import check_crops
from export.pipeline import export
from lite.artifact import read_spec, write_spec
from lite.backends import open_backend
from lite.backends.base import Backend
from lite.backends.cuda_graphs import graph_limit
from lite.backends.devices import device_tag
from lite.backends.torch_module import TorchModuleBackend
from lite.checkpoints import save_network
from lite.errors import ArtifactError, DeviceMemoryError
from lite.graph import PixelGraph
from lite.models.higher_hrnet import higher_hrnet
from lite.models.hrnet import classification_hrnet
from lite.segment import frame_segments
from lite.structures import Frame

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use"),
]
TINY = "sapiens/networks/pose_tiny.pth"


def crops(backend: Backend, count: int) -> np.ndarray:
    return check_crops(backend.spec, None, count)


def middling(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> dict[str, float]:
    """90th percentile of the differences, since single peaks may turn over; of boxes, whose order may, the scores."""
    names = [name for name in ("keypoints", "scores") if name in other]
    return {name: float(np.percentile(np.abs(one[name] - other[name]), 90)) for name in names}


@pytest.mark.parametrize("name", [TINY, "pose17-small", "person-nano"])
def test_float32_gives_the_numbers_of_the_cpu(golden: Path, name: str) -> None:
    model = golden / name if name.endswith(".pth") else name
    there = open_backend(model, device="cuda", mode="float32")
    here = open_backend(model, device="cpu", mode="float32")
    for count in (1, 3):
        pixels = crops(here, count)
        assert all(value < 0.05 for value in middling(there.run(pixels), here.run(pixels)).values())


@pytest.mark.parametrize("mode", ["float16", "bfloat16"])
def test_half_precision_stays_near(golden: Path, mode: str) -> None:
    there = open_backend(golden / TINY, device="cuda", mode=mode)
    here = open_backend(golden / TINY, device="cpu", mode="float32")
    pixels = crops(here, 4)
    assert middling(there.run(pixels), here.run(pixels))["scores"] < 0.05


def test_labels_are_found_where_the_logits_are(golden: Path) -> None:
    """Bands on the GPU and tiles on the processor give the same classes."""
    there = open_backend(golden / "sapiens/segmentation/seg_tiny.pth", device="cuda", mode="float32")
    pixels = crops(there, 3)
    kept = there.run_tensors(pixels)["logits"]
    assert kept.is_cuda
    frames = [Frame(pixels=np.zeros((90, 70, 3), np.uint8), source=str(n)) for n in range(3)]
    for input_hw in (None, there.spec.input_hw):
        on_gpu, on_cpu = (frame_segments(logits, frames, input_hw) for logits in (kept, kept.cpu()))
        same = [float((a == b).mean()) for a, b in zip(on_gpu.labels, on_cpu.labels)]
        assert min(same) > 0.999


@pytest.mark.parametrize("kind", ["classify", "pose-bottom-up"])
def test_convolutional_networks_give_the_numbers_of_the_cpu(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    network = (
        classification_hrnet(8, "hrnet-custom")
        if kind == "classify"
        else higher_hrnet(8, "coco17", name="higherhrnet-custom")
    )
    path = save_network(network.eval(), tmp_path / "network.safetensors")
    there, here = (open_backend(path, device=device, mode="float32") for device in ("cuda", "cpu"))
    pixels = crops(here, 2)
    for one in (pixels, np.concatenate([pixels, pixels], axis=2)[:1]) if kind == "pose-bottom-up" else (pixels,):
        found, wanted = there.run(one), here.run(one)
        for name in ("probabilities",) if kind == "classify" else ("heatmaps", "tag_maps", "scores"):
            spread = wanted[name].std() + 1e-6
            assert np.percentile(np.abs(found[name] - wanted[name]), 99) < 0.01 * spread, name


@pytest.mark.parametrize("flip_test", [False, True])
def test_recorded_graphs_give_what_the_network_gives(golden: Path, flip_test: bool) -> None:
    backend = open_backend(golden / TINY, device="cuda", mode="float32", flip_test=flip_test)
    limit = graph_limit(backend.spec)
    assert limit >= 8 and f"CUDA graphs up to batch {limit}" in backend.describe
    batches = [crops(backend, count)[::-1] for count in (5, 1, 4, 8, 3, 5)]
    replayed = [backend.run(pixels) for pixels in batches]
    backend.use_graphs(0)
    for pixels, found in zip(batches, replayed, strict=True):
        assert all(value < 0.05 for value in middling(found, backend.run(pixels)).values())


def test_two_backends_record_and_run_beside_each_other(golden: Path) -> None:
    wrong: list[object] = []

    def work(seed: int) -> None:
        try:
            backend = open_backend(golden / TINY, device="cuda", mode="float32")
            pixels = crops(backend, 1 + seed)
            first = backend.run(pixels)
            for _ in range(20):
                again = backend.run(pixels)
                if not all(np.array_equal(again[name], first[name]) for name in first):
                    wrong.append(seed)
        except Exception as problem:
            wrong.append(problem)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_float32_is_not_rounded_to_tf32(golden: Path) -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    open_backend(golden / TINY, device="cuda", mode="float32")
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    x, weight = torch.randn(2, 64, 32, 32), torch.randn(64, 64, 3, 3)
    exact = torch.nn.functional.conv2d(x.double(), weight.double())
    found = torch.nn.functional.conv2d(x.cuda(), weight.cuda()).cpu()
    assert (found - exact).abs().max() < 1e-3, "TF32 would be off by some hundredths"


@pytest.fixture(scope="module")
def written(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("out") / "tiny.pt2"
    assert export(ExportConfig(checkpoint=str(golden / TINY), output=str(output), batch_max=16)) == 0
    return output


def test_a_portable_program_runs_on_the_gpu(written: Path) -> None:
    there, here = (open_backend(written, device=device) for device in ("cuda", "cpu"))
    assert "CUDA graphs" in there.describe and "without" not in there.describe
    for count in (1, 3, 16):
        pixels = crops(here, count)
        assert all(value < 0.05 for value in middling(there.run(pixels), here.run(pixels)).values())


def test_a_program_exported_on_the_gpu_passes_its_gate(golden: Path, tmp_path: Path) -> None:
    config = ExportConfig(
        checkpoint=str(golden / TINY), output=str(tmp_path / "x.pt2"), batch_max=16, mode="bfloat16", device="cuda"
    )
    assert export(config) == 0


@pytest.fixture(scope="module")
def compiled(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("triton")
    folder = tmp_path_factory.mktemp("compiled")
    output = folder / "tiny.pt2"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HPE_LITE_TRUST", str(folder / "trusted.json"))
        config = ExportConfig(
            checkpoint=str(golden / TINY), output=str(output), batch_max=16, compile=True, device="cuda"
        )
        assert export(config) == 0
    return output


def test_a_compiled_package_runs_on_the_gpu_it_was_built_for(compiled: Path, written: Path) -> None:
    there = open_backend(compiled, device="cuda", trust=True)
    assert read_spec(compiled).device == device_tag(torch.device("cuda"))
    here = open_backend(written, device="cpu")
    for count in (1, 5, 16):
        pixels = crops(here, count)
        assert all(value < 0.05 for value in middling(there.run(pixels), here.run(pixels)).values())


@pytest.mark.parametrize("device", ["cuda sm_10", "cpu x86_64 avx2"])
def test_a_package_for_another_device_is_refused(compiled: Path, device: str) -> None:
    spec = read_spec(compiled)
    try:
        write_spec(compiled, replace(spec, device=device))
        with pytest.raises(ArtifactError, match=f"built for {device}, this is cuda sm_"):
            open_backend(compiled, device="cuda", trust=True)
    finally:
        write_spec(compiled, spec)


def test_a_package_for_the_gpu_is_refused_on_the_cpu(compiled: Path) -> None:
    with pytest.raises(ArtifactError, match="built for cuda sm_"):
        open_backend(compiled, device="cpu", trust=True)


class Greedy(torch.nn.Module):
    """Takes 4 GiB a crop and frees it again."""

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        torch.empty((len(pixels), 2**32), dtype=torch.uint8, device=pixels.device)
        return {"scores": pixels.float().mean((1, 2, 3))}


def test_too_many_crops_are_a_sentence_and_fewer_run_afterwards(toy_graph: PixelGraph) -> None:
    device = torch.device("cuda", 0)
    most = torch.cuda.get_device_properties(device).total_memory >> 32
    spec = replace(toy_graph.spec, batch_range=(1, 2 * most + 2))
    backend = TorchModuleBackend(Greedy(), spec, device, "eager float32", graphs=False)
    with pytest.raises(DeviceMemoryError, match="use a smaller batch size"):
        backend.run(np.zeros((2 * most + 2, 32, 24, 3), np.uint8))
    if most > 1:
        assert len(backend.run(np.zeros((1, 32, 24, 3), np.uint8))["scores"]) == 1
