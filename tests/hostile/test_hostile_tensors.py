"""Good files of the transformers with one tensor of an absurd shape or name: refused in a sentence, and soon."""

import contextlib
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lite.checkpoints import load_network, read_state_dict
from lite.errors import CheckpointError, HpeLiteError
from lite.models.split import split

FILES = (
    "vitpose/multi/vitpose_plus_6/checkpoint.pth",
    "vitpose/networks/mmpose1x_simple_64x48/checkpoint.pth",
    "vitpose/hf/moe_simple_64x48/model.safetensors",
    "sapiens/networks/pose_tiny.pth",
    "sapiens/networks/mae_pretrain_tiny_clean.pth",
    "sapiens/segmentation/seg_tiny.pth",
)
SHAPES = ((), (0,), (7,), (1, 1), (0, 3, 16, 16), (1, 2, 3, 4, 5))


def load(path: Path) -> None:
    """As the commands do; nothing but our own errors may come out."""
    for options in ({}, {"dataset": "mpii16"}, {"input_hw": (96, 64)}):
        try:
            load_network(path, **options)
        except HpeLiteError as problem:
            assert len(str(problem)) < 5000
    with contextlib.suppress(HpeLiteError):
        split(path, path.parent / "split")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_shapes(golden: Path, tmp_path: Path, name: str) -> None:
    state, _ = read_state_dict(golden / name)
    state = {key: tensor.clone() for key, tensor in state.items()}
    parts = ("pos", "proj", "head", "fc1", "fc2", "ffn", "experts.1", "query", "value", "norm1")
    chosen = [key for key in state if any(part in key for part in parts)]
    for n, key in enumerate(chosen[:: max(1, len(chosen) // 12)]):
        shape = SHAPES[n % len(SHAPES)]
        save_file(state | {key: torch.zeros(shape)}, tmp_path / "model.safetensors")
        load(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("vitpose/networks/classic_64x48/checkpoint.pth", "backbone.blocks.1.", "backbone.blocks.99999999."),
        ("vitpose/networks/classic_64x48/checkpoint.pth", "backbone.blocks.1.", "backbone.blocks.²."),
        ("sapiens/networks/pose_tiny.pth", "backbone.layers.1.", "backbone.layers.99999999."),
    ],
)
def test_a_number_of_a_block_builds_no_blocks(golden: Path, tmp_path: Path, name: str, old: str, new: str) -> None:
    state, _ = read_state_dict(golden / name)
    save_file({key.replace(old, new): tensor.clone() for key, tensor in state.items()}, tmp_path / "x.safetensors")
    start = time.perf_counter()
    with pytest.raises(CheckpointError, match="left over"):
        load_network(tmp_path / "x.safetensors")
    assert time.perf_counter() - start < 5
