"""A run from recipe to weights: it learns, goes on where it stopped, and what it writes loads."""

import csv
import dataclasses
import json

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("lightning")

from lite.checkpoints import load_network
from lite.errors import ConfigError, InputError, MissingExtraError, ModelError
from lite.train.config import AugmentConfig, DataConfig, OptimConfig, TeacherConfig, TrainConfig
from lite.train.fit import train
from lite.train.module import PoseModule


@pytest.fixture
def data(tmp_path):
    """Four people made of dots, one picture each; one is held out."""
    rng = np.random.default_rng(0)
    images, people = [], []
    for i in range(4):
        points = rng.uniform((30, 25), (80, 100), (17, 2)).round()
        pixels = np.full((120, 110, 3), 90, np.uint8)
        for k, (x, y) in enumerate(points):
            cv2.circle(pixels, (int(x), int(y)), 3, (15 * k, 255 - 15 * k, 40 * (k % 6)), -1)
        cv2.imwrite(str(tmp_path / f"{i}.png"), pixels)
        images.append({"id": i, "file_name": f"{i}.png", "width": 110, "height": 120})
        keypoints = [float(value) for point in points for value in (*point, 2)]
        people.append({"id": i, "image_id": i, "bbox": [25, 20, 60, 85], "keypoints": keypoints})
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": people}))
    return DataConfig(annotations=str(path), images=str(tmp_path), hold_out=0.25)


def recipe(data, output, **changes):
    settings = {
        "epochs": 1,
        "batch_size": 3,
        "ema": 0.5,
        "optim": OptimConfig(lr=1e-4, warmup_steps=0, schedule="constant"),
        "augment": AugmentConfig(flip_prob=0, rotation_prob=0, shift_prob=0, half_body_prob=0, scale=(1, 1), colour=0),
        "num_workers": 0,
        "device": "cpu",
        "progress": False,
        **changes,
    }
    return TrainConfig(task="pose", model="pose17-small", data=[data], output=str(output), **settings)


def weights(folder):
    return load_network(folder / "pose17-small.safetensors").state_dict()


def losses(folder):
    with open(folder / "log" / "metrics.csv", encoding="utf-8") as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]


@pytest.mark.slow
def test_learns_and_goes_on_as_if_it_had_never_stopped(data, tmp_path, capsys):
    assert train(recipe(data, tmp_path / "straight", epochs=6, log_steps=1)) == 0
    course = losses(tmp_path / "straight")
    assert len(course) == 6 and course[-1] < course[0]
    assert {"best.ckpt", "last.ckpt", "config.json"} <= {p.name for p in (tmp_path / "straight").iterdir()}

    assert train(recipe(data, tmp_path / "halves", epochs=3)) == 0
    capsys.readouterr()
    assert train(recipe(data, tmp_path / "halves", epochs=6)) == 0
    assert "going on from" in capsys.readouterr().out
    ends = [torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("straight", "halves")]
    assert [end["global_step"] for end in ends] == [6, 6]
    for key, value in ends[0]["state_dict"].items():
        torch.testing.assert_close(ends[1]["state_dict"][key], value, msg=key)


@pytest.mark.slow
def test_an_interrupted_epoch_goes_on_with_the_entries_it_has_not_seen(data, tmp_path, monkeypatch):
    seen = []
    loss = PoseModule.loss

    def remember(self, batch):
        seen.append(float(batch["keypoints"].sum()))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return loss(self, batch)

    monkeypatch.setattr(PoseModule, "loss", remember)
    changes = {"batch_size": 1, "epochs": 2, "save_minutes": 1e-6}
    assert train(recipe(data, tmp_path / "halves", **changes)) == 1
    seen[:] = [*seen[:2], 0.0, 0.0]  # the third was not finished
    assert train(recipe(data, tmp_path / "halves", **changes)) == 0
    halves = seen[:2] + seen[4:]
    seen[:] = [0.0] * 4
    assert train(recipe(data, tmp_path / "straight", **changes)) == 0
    assert halves == seen[4:]
    assert sorted(halves[:3]) == sorted(halves[3:])


@pytest.mark.slow
def test_a_teacher_who_is_the_start_leaves_the_heatmaps(data, tmp_path):
    """Without labels to follow, the loss towards the own start is 0 and nothing moves."""
    start = tmp_path / "start"
    train(recipe(data, start))
    path = str(start / "pose17-small.safetensors")
    teacher = TeacherConfig(weights=path, flip_test=False)
    changes = {"init": path, "teacher": teacher, "optim": OptimConfig(lr=0.0, warmup_steps=0)}
    train(recipe(data, tmp_path / "taught", limit=1, **changes))
    taught = weights(tmp_path / "taught")
    for name, value in weights(start).items():
        torch.testing.assert_close(taught[name], value)


def test_wrong_settings_are_named(data, tmp_path):
    with pytest.raises(ConfigError, match=r"model: expected a pose network .* found 'person-nano'"):
        train(TrainConfig(task="pose", model="person-nano", data=[data], output=str(tmp_path)))
    with pytest.raises(ModelError, match="did you mean pose17-small"):
        train(TrainConfig(task="pose", model="pose17-smal", data=[data], output=str(tmp_path)))
    with pytest.raises(ConfigError, match="data: expected at least one"):
        TrainConfig(task="pose", model="pose17-small", data=[], output="x")
    with pytest.raises(ConfigError, match=r"augment\.scale"):
        AugmentConfig(scale=(1.5, 0.5))
    with pytest.raises(ConfigError, match="epochs"):
        recipe(data, tmp_path, epochs=0)


@pytest.mark.slow
def test_a_checkpoint_of_another_run_is_refused(data, tmp_path):
    train(recipe(data, tmp_path, limit=1))
    with pytest.raises(ConfigError, match="found the checkpoint of another"):
        train(recipe(data, tmp_path, limit=1, ema=0.0))
    last = tmp_path / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(InputError, match="damaged file; pass --resume never"):
        train(recipe(data, tmp_path, limit=1))


def test_data_of_which_nothing_is_seen(data, tmp_path):
    sparse = dataclasses.replace(data, weight=0.01)
    with pytest.raises(ConfigError, match="data: expected people with labelled keypoints, found none"):
        train(recipe(sparse, tmp_path))


def test_without_lightning_the_command_to_install_it(data, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lightning.pytorch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hpe-lite\[train\]'"):
        train(recipe(data, tmp_path))
