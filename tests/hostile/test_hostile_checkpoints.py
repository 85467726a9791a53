"""Hostile weights files: refused in one line by every command, and none runs code or fills the memory."""

import resource
from collections.abc import Callable, Iterator

import pytest

from tests.hostile.checkpoints import PTH, SAFETENSORS
from tests.hostile.corpus import Kit

Refuse = Callable[..., str]
MOST_MEMORY = 1.5  # GB that a command may need above what it starts with


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """The largest this process has ever been grows by little."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20 < MOST_MEMORY


@pytest.mark.parametrize("name", PTH)
def test_pth(kit: Kit, refused: Refuse, name: str) -> None:
    path = kit.folder / "x.pth"
    path.write_bytes(PTH[name](kit))
    refused(path)


@pytest.mark.parametrize("name", ["zip, protocol 2", "legacy, protocol 2", "zip, beside good weights"])
def test_bombs_stay_inert_even_when_trusted(kit: Kit, refused: Refuse, name: str) -> None:
    """With --trust unknown names pass, but none of them is imported or called."""
    path = kit.folder / "x.pth"
    path.write_bytes(PTH[name](kit))
    if "good" in name:
        refused(path, "inspect", status=0, extra=("--trust",))
    else:
        refused(path, "inspect export", extra=("--trust",))


@pytest.mark.parametrize("name", SAFETENSORS)
def test_safetensors(kit: Kit, refused: Refuse, name: str) -> None:
    path = kit.folder / "x.safetensors"
    path.write_bytes(SAFETENSORS[name](kit))
    refused(path, "infer export")


@pytest.mark.parametrize("kind", ["pth", "legacy", "safetensors"])
@pytest.mark.parametrize("keep", [1, 7, 8, 9, 30, 0.01, 0.3, 0.9, 0.999, -1])
def test_truncated(kit: Kit, refused: Refuse, kind: str, keep: float) -> None:
    data = getattr(kit, kind)
    path = kit.folder / ("x.safetensors" if kind == "safetensors" else "x.pth")
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    refused(path)


@pytest.mark.parametrize("kind", ["pth", "legacy", "safetensors"])
def test_the_good_ones_are_not_refused(kit: Kit, refused: Refuse, kind: str) -> None:
    path = kit.folder / f"x.{kind}"
    path.write_bytes(getattr(kit, kind))
    refused(path, "inspect", status=0)
