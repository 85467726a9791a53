"""The tiny Sapiens network of the golden arrays, as a graph and as check crops; exports of small rows of the zoo."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from export import pipeline
from export.config import SUFFIXES, ExportConfig
from export.crops import check_crops
from export.pipeline import export
from lite.artifact import read_spec
from lite.backends.eager_backend import build_graph
from lite.checkpoints import load_network
from lite.models.zoo import ZOO
from lite.network import any_size
from tests.export.lively import enliven
from tests.export.small_rows import shrink


@pytest.fixture(scope="session")
def tiny(golden: Path) -> Path:
    return golden / "sapiens/networks/pose_tiny.pth"


@pytest.fixture
def network(tiny: Path) -> Callable[[], nn.Module]:
    """A fresh one at every call, since graphs change it."""
    return lambda: load_network(tiny)


@pytest.fixture(scope="session")
def crops(tiny: Path) -> np.ndarray:
    return check_crops(build_graph(load_network(tiny)).spec, None, 6)


@pytest.fixture
def export_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict]:
    """`export_small(name, format=...)`: the check's report of the file of a small row with lively weights.

    What the check does not pass is an error. The file is `<format>.<suffix>` in `tmp_path`.
    """

    def export_small(name: str, **values: object) -> dict:
        small = shrink(ZOO[name])
        monkeypatch.setattr(pipeline, "load_network", lambda *args, **kwargs: enliven(small.build(monkeypatch)))
        suffix = SUFFIXES[str(values["format"])]
        output = tmp_path / f"{values['format']}{suffix}"
        assert export(ExportConfig(model=name, output=str(output), **{"batch_max": 3, **values})) == 0
        spec = read_spec(output)
        kept = ("task", "crop", "frame", "letterbox", "skeleton", "labels", "label_swaps", "color_order")
        assert all(getattr(spec, field) == getattr(small.spec, field) for field in kept)
        assert spec.codec == small.spec.codec and spec.flip_test == values.get("flip_test", False)
        assert spec.check["passed"] and spec.check["compared"] > 0
        assert len(spec.check["sizes"]) == (2 if any_size(spec) else 1)
        return spec.check

    return export_small
