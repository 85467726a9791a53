"""Networks to start from and to learn from."""

from torch import nn

from lite.checkpoints import load_network
from lite.errors import ConfigError
from lite.models.find import find_weights, resolve_model, zoo_row
from lite.models.zoo import ZOO
from lite.train.config import TrainConfig


def start_network(config: TrainConfig) -> nn.Module:
    """The network of `config.model`, with the weights of `config.init` or random ones; trainable.

    Raises:
        ModelError: no such model.
        ConfigError: one for another task.
    """
    row = zoo_row(config.model)
    if row.task != config.task:
        fitting = ", ".join([name for name, one in ZOO.items() if one.task == config.task][:3])
        raise ConfigError(
            f"model: expected a {config.task} network of the zoo ({fitting}, ...), found {config.model!r}; "
            "run `hpe-lite models` for the list"
        )
    network = row.build() if config.init is None else load_named(config.init, config.model)
    return network.train().requires_grad_(True)


def load_teacher(config: TrainConfig) -> nn.Module | None:
    """The teacher, in eval mode; None when the run has none."""
    return None if config.teacher.weights is None else load_named(config.teacher.weights).eval()


def load_named(name_or_path: str, model: str | None = None) -> nn.Module:
    """A network with weights, by zoo name or file."""
    kind, found = resolve_model(name_or_path)
    if kind == "zoo":
        if found.weights is None:
            raise ConfigError(f"init: the weights of {found.name} are not distributed; give the checkpoint file itself")
        return load_network(find_weights(found.weights), model=found.name)
    return load_network(found, model=model)
