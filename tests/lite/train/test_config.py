"""Recipes are read as they stand in the repository, and their models exist."""

import pytest

from lite.cli import COMMANDS, build_config
from lite.errors import ConfigError
from lite.models.zoo import ZOO
from lite.train.config import DataConfig, OptimConfig, TrainConfig


def recipes(root):
    return sorted((root / "lite" / "recipes").glob("*.yaml"))


def test_every_recipe_is_read_by_the_command_line(root):
    assert recipes(root)
    for path in recipes(root):
        config = build_config("train", COMMANDS["train"], ["--config", str(path), "--epochs", "7", "--optim.lr", "0.5"])
        assert ZOO[config.model].task == config.task
        assert all(isinstance(data, DataConfig) for data in config.data)
        assert (config.epochs, config.optim.lr) == (7, 0.5)


@pytest.mark.parametrize(
    ("key", "value"),
    [("limit", 0), ("threads", 0), ("seed", -1), ("num_workers", -1), ("log_steps", 0), ("save_minutes", 0.0),
     ("ohkm_top", 0), ("device", "cuda:1")],
)  # fmt: skip
def test_numbers_training_cannot_use_are_refused(key, value):
    data = [DataConfig(annotations="a", images="b")]
    with pytest.raises(ConfigError, match=f"^{key}: expected"):
        TrainConfig(task="pose", model="pose17-small", data=data, output="x", **{key: value})


def test_wrong_values_name_their_key():
    with pytest.raises(ConfigError, match=r"data\.hold_out"):
        DataConfig(annotations="a", images="b", hold_out=1.0)
    with pytest.raises(ConfigError, match=r"data\.weight"):
        DataConfig(annotations="a", images="b", weight=0)
    with pytest.raises(ConfigError, match=r"optim\.lr"):
        OptimConfig(lr=-1)
