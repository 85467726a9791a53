"""Recipes are read as they stand in the repository, and their models exist."""

import pytest

from lite.cli import COMMANDS, build_config
from lite.errors import ConfigError
from lite.models.zoo import ZOO
from lite.train.config import DataConfig, OptimConfig


def recipes(root):
    return sorted((root / "lite" / "recipes").glob("*.yaml"))


def test_every_recipe_is_read_by_the_command_line(root):
    assert recipes(root)
    for path in recipes(root):
        config = build_config("train", COMMANDS["train"], ["--config", str(path), "--epochs", "7", "--optim.lr", "0.5"])
        assert ZOO[config.model].task == config.task
        assert all(isinstance(data, DataConfig) for data in config.data)
        assert (config.epochs, config.optim.lr) == (7, 0.5)


def test_wrong_values_name_their_key():
    with pytest.raises(ConfigError, match=r"data\.hold_out"):
        DataConfig(annotations="a", images="b", hold_out=1.0)
    with pytest.raises(ConfigError, match=r"data\.weight"):
        DataConfig(annotations="a", images="b", weight=0)
    with pytest.raises(ConfigError, match=r"optim\.lr"):
        OptimConfig(lr=-1)
