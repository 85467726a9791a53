"""Networks to start from and to learn from."""

from torch import nn

from lite.checkpoints import load_network
from lite.errors import ConfigError
from lite.models.find import zoo_row
from lite.models.zoo import ZOO
from lite.train.config import TrainConfig


def start_network(config: TrainConfig) -> nn.Module:
    """The network of `config.model`, with the weights of `config.init` or random ones; trainable.

    Raises:
        ModelError: no such model, or weights of another.
        ConfigError: one for another task.
    """
    row = zoo_row(config.model)
    if row.task != config.task:
        fitting = ", ".join([name for name, one in ZOO.items() if one.task == config.task][:3])
        raise ConfigError(
            f"model: expected a {config.task} network of the zoo ({fitting}, ...), found {config.model!r}; "
            "run `hpe-lite models` for the list"
        )
    network = row.build() if config.init is None else load_network(config.init, config.model)
    return network.train().requires_grad_(True)


def load_teacher(config: TrainConfig) -> nn.Module | None:
    """The teacher, in eval mode; None when the run has none."""
    return None if config.teacher.weights is None else load_network(config.teacher.weights)
