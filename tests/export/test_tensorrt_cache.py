"""An engine file is reused for the same recipe alone, and only when this installation built it."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from export.tensorrt_cache import Batches, Recipe, cache_folder, fetch, keep, timing_name

RECIPE = Recipe(
    graph_sha256="0" * 64,
    device="cuda sm_90 NVIDIA H200",
    tensorrt="10.13.3.9",
    batches=Batches(least=1, best=8, most=64),
    mode="bfloat16",
    workspace=2**30,
)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HPE_LITE_TRUST", str(tmp_path / "trust" / "trusted.json"))


@pytest.mark.parametrize(
    "change",
    [
        {"graph_sha256": "1" * 64},
        {"device": "cuda sm_90 NVIDIA H100 80GB HBM3"},
        {"device": "cuda sm_80 NVIDIA H200"},
        {"tensorrt": "10.13.3.10"},
        {"batches": Batches(least=1, best=4, most=64)},
        {"batches": Batches(least=1, best=8, most=65)},
        {"mode": "float16"},
        {"workspace": 2**31},
    ],
)
def test_every_part_of_the_recipe_counts(change: dict) -> None:
    assert RECIPE.key() == replace(RECIPE).key()
    assert replace(RECIPE, **change).key() != RECIPE.key()


def test_what_is_kept_is_found_again() -> None:
    assert fetch("a.engine") is None
    keep("a.engine", b"code")
    assert fetch("a.engine") == b"code"
    assert [path.name for path in cache_folder().iterdir()] == ["a.engine"]
    if hasattr(os, "geteuid"):
        assert cache_folder().stat().st_mode & 0o077 == 0


def test_a_file_that_somebody_else_put_there_is_not_used() -> None:
    keep("a.engine", b"code")
    (cache_folder() / "a.engine").write_bytes(b"other code")
    (cache_folder() / "b.engine").write_bytes(b"more code")
    assert fetch("a.engine") is None and fetch("b.engine") is None
    keep("a.engine", b"code again")
    assert fetch("a.engine") == b"code again"


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    keep("a.engine", b"code")
    assert fetch("a.engine") is None
    assert not (tmp_path / "trust").exists()


def test_a_trust_file_that_cannot_be_written_is_no_reason_to_lose_a_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HPE_LITE_TRUST", str(tmp_path / "file" / "trusted.json"))
    keep("a.engine", b"code")
    assert (cache_folder() / "a.engine").read_bytes() == b"code"


def test_kernel_timings_belong_to_one_gpu_and_version() -> None:
    assert timing_name(RECIPE.device, RECIPE.tensorrt) == "cuda-sm_90-NVIDIA-H200_10.13.3.9.timing"
    names = {
        timing_name(device, version) for device in ("cuda sm_90 A", "cuda sm_90 B") for version in ("10.1", "10.2")
    }
    assert len(names) == 4


def test_the_folder_is_in_the_home_when_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/hpe-lite/tensorrt")
    assert hashlib.sha256(b"").hexdigest() != RECIPE.key()
