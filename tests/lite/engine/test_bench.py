"""The benchmark counts every picture once and every stage at all."""

import json
import os

import cv2
import pytest

from lite.config import BenchConfig
from lite.engine import bench
from lite.engine.pipeline import Pipeline
from lite.engine.run import open_pipeline
from lite.errors import ConfigError


@pytest.fixture
def folder(tmp_path, picture):
    for n in range(5):
        cv2.imwrite(str(tmp_path / f"{n}.png"), picture(n)[..., ::-1])
    return tmp_path


def test_stages_and_rates(folder, fake_pose, fake_detector, monkeypatch, capsys):
    monkeypatch.setattr(bench, "open_pipeline", lambda config: Pipeline(fake_pose, fake_detector))
    assert bench.bench(BenchConfig(input=str(folder), repeat=2, json=True)) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["pictures"], report["people"], report["failed"]) == (5, 10, 0)
    assert set(report["stages_s"]) == {"read", "detect", "crop", "forward", "assemble", "records", "write"}
    assert all(seconds > 0 for seconds in report["stages_s"].values())
    assert report["pictures_per_s"] == pytest.approx(5 / report["run_s"])
    (folder / "bad.jpg").touch()
    assert bench.bench(BenchConfig(input=str(folder), repeat=1)) == 1
    assert "6 pictures, 10 people, 1 failed" in capsys.readouterr().out


def test_its_settings_are_checked_before_anything_runs():
    with pytest.raises(ConfigError, match="repeat: expected at least 1"):
        BenchConfig(input="a", repeat=0)
    with pytest.raises(ConfigError, match="draw: expected one of"):
        BenchConfig(input="a", draw="dots")


def test_the_checkpoint_folder_holds_for_it_as_well(folder, monkeypatch):
    monkeypatch.setenv("HPE_LITE_CHECKPOINTS", "elsewhere")  # restored afterwards
    looked_in = []
    monkeypatch.setattr(
        "lite.engine.run.Pipeline", lambda *_, **__: looked_in.append(os.environ["HPE_LITE_CHECKPOINTS"])
    )
    open_pipeline(BenchConfig(input=str(folder), checkpoints=str(folder)).infer("unused"))
    assert looked_in == [str(folder)]
