"""Fixtures every test may use."""

import os
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def golden() -> Path:
    """Arrays computed by the original implementations, small copies that travel with the repository."""
    return ROOT / "tests" / "golden"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The large reference folder (full-size key listings, photographs); tests that need it skip without it."""
    folder = Path(os.environ.get("HPE_LITE_SHARED", ROOT.parent / "shared"))
    if not (folder / "reference").is_dir():
        pytest.skip("needs the reference folder; set HPE_LITE_SHARED to it")
    return folder


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """A stand-in for TensorRT on a CPU, with a trust file and a cache of its own; see tests/fake_tensorrt.py."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from tests import fake_tensorrt

    monkeypatch.setenv("HPE_LITE_TRUST", str(tmp_path / "trust" / "trusted.json"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fake_tensorrt.on_the_cpu(monkeypatch)
    return fake_tensorrt.fresh()
