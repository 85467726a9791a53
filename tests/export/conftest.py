"""The tiny Sapiens network of the golden arrays, as a graph and as check crops."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from export.crops import check_crops
from lite.backends.eager_backend import build_graph
from lite.checkpoints import load_network


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
