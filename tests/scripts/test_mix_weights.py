"""Weights part of the way between two files."""

import runpy
import sys
from dataclasses import replace

import pytest
import torch

from lite.checkpoints import load_network, save_network
from lite.models.rtmdet import rtmdet


def run(root, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["mix_weights.py", *map(str, words)])
    runpy.run_path(str(root / "scripts" / "mix_weights.py"), run_name="__main__")


def test_a_quarter_of_the_way(root, tmp_path, monkeypatch):
    networks = [rtmdet("nano", "person", "person-nano", canvas=64) for _ in range(2)]
    files = [save_network(network, tmp_path / f"{i}.safetensors") for i, network in enumerate(networks)]
    run(root, monkeypatch, *files, tmp_path / "mixed.safetensors", "--share", "0.25")
    mixed = load_network(tmp_path / "mixed.safetensors")
    for found, start, trained in zip(mixed.parameters(), *(network.parameters() for network in networks)):
        assert torch.allclose(found, 0.75 * start + 0.25 * trained, atol=1e-6)
    assert replace(mixed.spec, source_sha256=None) == networks[1].spec


def test_other_networks_are_refused(root, tmp_path, monkeypatch):
    first = save_network(rtmdet("nano", "person"), tmp_path / "a.safetensors")
    second = save_network(rtmdet("tiny", "coco80"), tmp_path / "b.safetensors")
    with pytest.raises(SystemExit, match="one network"):
        run(root, monkeypatch, first, second, tmp_path / "c.safetensors", "--share", "0.5")
    assert not (tmp_path / "c.safetensors").exists()
