"""A checkpoint is the new one or the old one, never half of either."""

import os

import pytest
import torch

from lite.train.checkpoint_io import ReplacingCheckpointIO


def test_a_save_that_breaks_off_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    file, writer = tmp_path / "run" / "last.ckpt", ReplacingCheckpointIO()
    writer.save_checkpoint({"step": 1}, file)
    writer.save_checkpoint({"step": 2}, file)

    def break_off(checkpoint, path):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr(torch, "save", break_off)
        writer.save_checkpoint({"step": 3}, file)
    assert torch.load(file) == {"step": 2}
    assert os.listdir(file.parent) == ["last.ckpt"]


def test_the_trainer_uses_it(tmp_path):
    from lite.train.config import DataConfig, TrainConfig
    from lite.train.fit import build_trainer

    data = [DataConfig(annotations="a.json", images="a")]
    config = TrainConfig(task="pose", model="pose17-small", data=data, output=str(tmp_path), progress=False)
    trainer = build_trainer(config, tmp_path, validates=False)
    assert isinstance(trainer.strategy.checkpoint_io, ReplacingCheckpointIO)
