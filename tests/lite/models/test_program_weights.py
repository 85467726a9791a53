"""Files that are programs give their weights, whatever wrote them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lite.backends import able_backends, open_backend
from lite.checkpoints import load_network, read_state_dict
from lite.errors import ArtifactError, CheckpointError, ConfigError, UnsafeFileError
from lite.models.listing import file_facts
from tests.program_files import Estimator, old_program, program, saved, script, write, zipped

LAYOUTS = ["torchscript", "torchscript half", "written here", "torch 2.8", "torch 2.4", "torch 2.2"]
TRUST = {"torchscript", "torchscript half"}
HEATMAPS = 2e-4  # tests/golden/sapiens/networks/README.md


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_weights(
    tmp_path: Path, estimator: Estimator, files: dict[str, bytes], layout: str
) -> None:
    path = write(tmp_path, files[layout])
    state, meta = read_state_dict(path, trust=layout in TRUST)
    dtype = torch.float16 if layout.endswith("half") else torch.float32
    expected = {name: tensor.to(dtype) for name, tensor in estimator.state_dict().items()}
    assert set(state) == set(expected) and meta == {}
    for name, tensor in expected.items():
        assert state[name].dtype == dtype and torch.equal(state[name], tensor), name


@pytest.mark.parametrize("layout", ["torchscript", "written here", "torch 2.4"])
def test_the_network_gives_what_the_program_gives(
    tmp_path: Path, estimator: Estimator, files: dict[str, bytes], layout: str
) -> None:
    network = load_network(write(tmp_path, files[layout]), trust=layout in TRUST)
    assert network.spec.input_hw == (64, 48) and network.spec.skeleton == "coco17"
    pixels = torch.rand(3, 3, 64, 48, generator=torch.Generator().manual_seed(1)) * 255
    expected = estimator(pixels)
    found = network((pixels - 120) / 58)["heatmaps"].detach()
    assert expected.abs().max() > 1
    torch.testing.assert_close(found, expected, atol=HEATMAPS, rtol=0)


@pytest.mark.parametrize("tag", "ab")
def test_the_published_kind_of_torchscript(shared: Path, tag: str) -> None:
    folder = shared / "reference/sapiens/golden"
    arrays = np.load(folder / "pose_tiny.npz")
    network = load_network(folder / "pose_tiny_torchscript.pt2", trust=True)
    with torch.no_grad():
        found = network(torch.from_numpy(arrays[f"input_{tag}"]))["heatmaps"].numpy()
    np.testing.assert_allclose(found, arrays[f"heatmap_{tag}"], atol=HEATMAPS)
    with pytest.raises(UnsafeFileError, match=r"TorchScript archive.*--trust.*not run even then.*\.pth"):
        load_network(folder / "pose_tiny_torchscript.pt2")


def test_the_published_kind_of_bfloat16_program(shared: Path) -> None:
    folder = shared / "reference/sapiens/golden"
    pixels = torch.from_numpy(np.load(folder / "pose_tiny.npz")["input_a"])
    original = read_state_dict(folder / "pose_tiny.pth")[0]
    state = read_state_dict(folder / "pose_tiny_bfloat16.pt2")[0]
    assert set(state) == set(original)
    assert all(torch.equal(state[name], tensor.bfloat16()) for name, tensor in original.items())
    network = load_network(folder / "pose_tiny_bfloat16.pt2")
    assert {tensor.dtype for tensor in network.parameters()} == {torch.float32}
    with torch.no_grad():
        exact = network(pixels)["heatmaps"].numpy()
        rough = network.bfloat16()(pixels.bfloat16())["heatmaps"].float().numpy()
    published = np.load(folder / "pose_tiny_bfloat16.npz")["heatmap_a"].astype(np.float32)
    np.testing.assert_allclose(rough, published, atol=0.03)
    np.testing.assert_allclose(exact, published, atol=0.1)


def test_infer_runs_it_in_bfloat16_where_that_is_fast(
    tmp_path: Path, estimator: Estimator, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lite.backends.eager_backend.has_fast_bfloat16", lambda device: True)
    rounded = {name: tensor.bfloat16() for name, tensor in estimator.state_dict().items()}
    crops = np.random.default_rng(0).integers(0, 256, (2, 64, 48, 3), dtype=np.uint8)
    for data, mode in ((files["torch 2.4"], "float32"), (old_program(saved(rounded)), "bfloat16")):
        path = write(tmp_path, data)
        assert able_backends(path) == {"eager"}
        backend = open_backend(path, device="cpu")
        assert backend.spec.mode == mode and backend.run(crops)["keypoints"].shape == (2, 17, 2)


@pytest.mark.parametrize("layout", ["torchscript", "written here"])
def test_the_weights_stay_in_the_file(tmp_path: Path, files: dict[str, bytes], layout: str) -> None:
    """Every tensor lies in memory as it lies in the file, so the file is mapped and nothing is copied."""
    data = files[layout]
    state, _ = read_state_dict(write(tmp_path, data), trust=True)
    large = [tensor for tensor in state.values() if tensor.numel() > 300]
    assert len(large) > 5
    assert len({tensor.data_ptr() - data.index(tensor.numpy().tobytes()) for tensor in large}) == 1


class Tied(nn.Module):
    """Views of one run of numbers."""

    def __init__(self) -> None:
        super().__init__()
        base = torch.arange(24.0).reshape(4, 6)
        for name, part in {"whole": base, "part": base[1:3, ::2], "turned": base.t()}.items():
            self.register_buffer(name, part)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.whole.sum() + self.part.sum() + self.turned.sum()


@pytest.mark.parametrize("make", [script, program, lambda tied: old_program(saved(dict(tied.named_buffers())))])
def test_tensors_that_share_memory(tmp_path: Path, make: Callable[[nn.Module], bytes]) -> None:
    tied = Tied()
    state, _ = read_state_dict(write(tmp_path, make(tied)), trust=True)
    assert set(state) == {"whole", "part", "turned"}
    assert all(torch.equal(tensor, getattr(tied, name)) for name, tensor in state.items())


@pytest.mark.parametrize("wrapper", ["model.", "module.", "_orig_mod.", "module._orig_mod.model."])
def test_what_wrapped_the_network_is_no_part_of_the_names(tmp_path: Path, estimator: Estimator, wrapper: str) -> None:
    state = {f"{wrapper}{name}": tensor for name, tensor in estimator.state_dict().items()}
    assert set(read_state_dict(write(tmp_path, old_program(saved(state))))[0]) == set(estimator.state_dict())


def test_inspect_says_what_it_is(tmp_path: Path, files: dict[str, bytes]) -> None:
    path = write(tmp_path, files["torchscript half"])
    with pytest.raises(UnsafeFileError, match="--trust"):
        file_facts(path)
    facts = file_facts(path, trust=True)
    assert facts["kind"] == "checkpoint" and facts["task"] == "pose" and facts["problems"] == []
    assert facts["dtypes"] == {"float16": facts["tensors"]}


def test_heads_of_other_tasks_are_named(tmp_path: Path, estimator: Estimator) -> None:
    state = {name.replace("head.", "decode_head."): tensor for name, tensor in estimator.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"decode_head\.conv_seg"):
        load_network(write(tmp_path, old_program(saved(state))))


def test_a_program_of_this_project_needs_its_json(tmp_path: Path) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = nn.Linear(3, 4)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.network(pixels.mean((2, 3)))

    compiled = zipped({"x/archive_format": b"pt2", "x/data/aotinductor/model/x.so": b""})
    for data in (program(Own()), compiled):
        path = write(tmp_path, data)
        json_file = Path(f"{path}.json")
        for backend in ("auto", "pt2"):
            with pytest.raises(ArtifactError, match=r"expected its description x\.pt2\.json beside it"):
                open_backend(path, backend=backend)
        json_file.write_text("{}")
        with pytest.raises(CheckpointError, match="found an exported program with its JSON; name it as --model"):
            load_network(path)
        json_file.unlink()


def test_a_program_of_others_does_not_run_on_the_backend_for_ours(tmp_path: Path, files: dict[str, bytes]) -> None:
    with pytest.raises(ArtifactError, match=r"x\.pt2\.json"):
        open_backend(write(tmp_path, files["torch 2.4"]), backend="pt2")
    with pytest.raises(ConfigError, match="run on eager, asked for openvino"):
        open_backend(write(tmp_path, files["torch 2.4"]), backend="openvino")
