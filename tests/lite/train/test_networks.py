"""What training starts from."""

import pytest

from lite.errors import CheckpointError, ConfigError, ModelError
from lite.train.config import DataConfig, TeacherConfig, TrainConfig
from lite.train.networks import load_teacher, start_network


def config(**more) -> TrainConfig:
    data = [DataConfig(annotations="unused", images="unused")]
    return TrainConfig(**{"task": "pose", "model": "pose17-small", "data": data, "output": "unused", **more})


def test_a_zoo_name_starts_with_its_weights():
    network = start_network(config(init="pose17-small"))
    assert network.training and all(parameter.requires_grad for parameter in network.parameters())
    teacher = load_teacher(config(teacher=TeacherConfig(weights="pose17-small")))
    assert not teacher.training and load_teacher(config()) is None
    assert all((a == b).all() for a, b in zip(network.parameters(), teacher.parameters(), strict=True))


def test_weights_of_another_network_are_refused():
    with pytest.raises(CheckpointError, match="expected the weights of pose17-small, found a rtmdet network"):
        start_network(config(init="person-nano"))


def test_weights_without_a_fixed_name_are_asked_for():
    with pytest.raises(CheckpointError, match="vitpose-b-coco17: expected its weights file, which has no fixed name"):
        load_teacher(config(teacher=TeacherConfig(weights="vitpose-b-coco17")))


def test_models_for_another_task_or_none():
    with pytest.raises(ConfigError, match=r"expected a pose network of the zoo .*, found 'person-nano'"):
        start_network(config(model="person-nano"))
    with pytest.raises(ModelError, match="did you mean pose17-small"):
        start_network(config(model="pose17-smal"))
