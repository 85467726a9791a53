"""What is counted and printed about one network; never how fast it is."""

import json
import os
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from lite.cli import main
from lite.config import BenchModelConfig
from lite.engine import bench_model
from lite.engine.matrix_rate import MatrixElsewhere, product
from lite.errors import ConfigError, HpeLiteError

DEVICE = torch.device("cpu")


@pytest.fixture
def opened(fake_pose, monkeypatch):
    """The fake network, with a product of 4 rows a crop and 8 operations for each of its multiply-adds."""
    fake_pose.spec = replace(fake_pose.spec, flops=8 * 4 * 3 * 5, trunk_matrix=(4, 3, 5), batch_range=(1, 8))
    seen = []
    run = type(fake_pose).run
    fake_pose.run = lambda pixels: (seen.append(pixels.shape), run(fake_pose, pixels))[1]
    fake_pose.seen = seen
    asked = {}
    monkeypatch.setattr(bench_model, "open_backend", lambda model, **options: asked.update(options) or fake_pose)
    fake_pose.asked = asked
    return fake_pose


def test_counts(opened, capsys):
    words = BenchModelConfig(model="any", backend="eager", batch_size="1,3", seconds=0, threads=1, json=True)
    assert bench_model.bench_model(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["gflop_per_crop"] == pytest.approx(480e-9)
    assert (opened.asked["backend"], opened.asked["threads"]) == ("eager", 1)
    height, width = opened.spec.input_hw
    assert set(opened.seen) == {(1, height, width, 3), (3, height, width, 3)}
    for size, one in zip((1, 3), report["batches"], strict=True):
        assert (one["batch_size"], one["matrix"]) == (size, [4 * size, 3, 5])
        assert one["calls"] >= bench_model.LEAST_ROUNDS
        assert one["crops_per_s"] == pytest.approx(size / one["batch_s"])
        assert one["tflops"] == pytest.approx(480e-12 * one["crops_per_s"])
        assert one["share"] == pytest.approx(one["tflops"] / one["matrix_tflops"])
        assert one["decode_share"] is None  # only eager networks can be taken apart
    assert report["peak_memory_mb"] > 10


def test_decode_is_timed_where_it_can_be(opened):
    decoded = []
    opened.decoding = lambda pixels: lambda: decoded.append(len(pixels))
    (one,) = bench_model.measure(opened, [2], 0.0)["batches"]
    assert one["decode_share"] > 0
    assert set(decoded) == {2}


def test_table(opened, capsys):
    assert bench_model.bench_model(BenchModelConfig(model="any", batch_size=2, seconds=0)) == 0
    shown = capsys.readouterr().out
    assert "batch 2 " in shown and "crops/s" in shown and "% of the machine's" in shown and "8 x 3 x 5" in shown
    opened.spec = replace(opened.spec, flops=None, trunk_matrix=None)
    assert bench_model.bench_model(BenchModelConfig(model="any", batch_size=2, seconds=0)) == 0
    shown = capsys.readouterr().out
    assert "export it again" in shown and "% of" not in shown


def test_misuse(opened):
    with pytest.raises(ConfigError, match="at most 8 crops"):
        bench_model.bench_model(BenchModelConfig(model="any", batch_size="1,16"))
    for wrong in ("0", "²", "1,", "a", -2):
        with pytest.raises(ConfigError, match="batch_size: expected numbers"):
            BenchModelConfig(model="any", batch_size=wrong)


@pytest.mark.parametrize(
    ("mode", "fast", "dtype"),
    [
        ("float32", True, torch.float32),
        ("bfloat16", True, torch.bfloat16),
        ("bfloat16", False, torch.float32),
        ("float16", True, torch.bfloat16),
        ("int8", True, torch.bfloat16),
        ("int8", False, torch.float32),
    ],
)
def test_the_machines_rate_is_that_of_the_mode(mode, fast, dtype, monkeypatch):
    monkeypatch.setattr(bench_model, "has_fast_bfloat16", lambda device: fast)
    assert bench_model.matrix_dtype(mode, DEVICE) == dtype


def test_the_product_is_one(opened):
    shape = bench_model.matrix_shape(opened.spec, 2)
    assert shape == (8, 3, 5)
    call = product(shape, torch.float32, DEVICE)
    assert call().shape == (8, 5)
    assert bool(torch.isfinite(call()).all())


def test_the_machines_rate_comes_from_another_process():
    with MatrixElsewhere((8, 3, 5), "bfloat16", 1, 0.01) as matrix:
        assert not matrix.seconds
        matrix()
        assert matrix.process.pid != os.getpid()
        assert len(matrix.seconds) > 1
        assert 0 < matrix.median() < 1
        matrix.process.kill()
        matrix.process.wait()
        with pytest.raises(HpeLiteError, match="matrix rate"):
            matrix()
    assert matrix.process.returncode is not None


def test_a_call_longer_than_the_measurement_is_made_once(opened, monkeypatch):
    monkeypatch.setattr(bench_model, "TURN_S", 0.0)
    run = opened.run
    opened.run = lambda pixels: (time.sleep(0.02), run(pixels))[1]
    (one,) = bench_model.measure(opened, [2], 0.01)["batches"]
    assert (len(opened.seen), one["calls"]) == (1, 1)
    assert one["batch_s"] == one["batch_p90_s"] >= 0.02
    assert one["share"] > 0


def test_a_turn_counts_each_call_once():
    calls = []
    turn = bench_model.Turn(lambda: calls.append(np.sqrt(2.0)), DEVICE)
    warm = len(calls)
    turn()
    assert len(calls) - warm == len(turn.seconds) > 1
    assert 0 < turn.median() < bench_model.TURN_S


def test_two_words_on_the_command_line(opened, capsys):
    words = ["bench", "model", "--model", "any", "--seconds", "0", "--json", "--batch-size"]
    for given, sizes in (("2", [2]), ("1,3", [1, 3])):
        assert main([*words, given]) == 0
        assert [one["batch_size"] for one in json.loads(capsys.readouterr().out)["batches"]] == sizes
    assert main([*words, "0"]) == 2
    assert capsys.readouterr().err.startswith("hpe-lite bench model: batch_size: expected numbers")
    assert main(["bench", "model", "--bakend", "pt2"]) == 2
    assert "did you mean --backend?" in capsys.readouterr().err
