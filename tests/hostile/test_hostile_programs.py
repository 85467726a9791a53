"""Hostile `.pt2` files: every member, every structure, every cut; refused in one line, and none runs code."""

from collections.abc import Callable

import pytest

from tests.hostile.corpus import PT2, Kit

Refuse = Callable[..., str]
WEIGHTS_ONLY = "checkpoint"  # no program, but good weights to start from, whatever the file is called


@pytest.mark.parametrize("name", PT2)
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_as_an_artifact(kit: Kit, refused: Refuse, name: str) -> None:
    """Its JSON fits, so that the archive itself is what must be refused."""
    path = kit.write("x.pt2", PT2[name](kit))
    refused(path, "infer" if name == WEIGHTS_ONLY else "infer export")
    refused(path, "inspect", status=1)  # which never opens it, and says that it was never checked


@pytest.mark.parametrize("name", [name for name in PT2 if name != WEIGHTS_ONLY])
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_as_a_checkpoint(kit: Kit, refused: Refuse, name: str) -> None:
    """Without a JSON it could be somebody's published weights."""
    path = kit.folder / "x.pt2"
    path.write_bytes(PT2[name](kit))
    refused(path)


@pytest.mark.parametrize("keep", [1, 4, 30, 0.01, 0.2, 0.5, 0.8, 0.99, -22, -1])
@pytest.mark.parametrize("fitting", [True, False], ids=["fitting JSON", "old JSON"])
def test_truncated(kit: Kit, refused: Refuse, keep: float, fitting: bool) -> None:
    path = kit.write("x.pt2", kit.pt2)
    data = kit.pt2[: int(keep * len(kit.pt2)) if isinstance(keep, float) else keep]
    refused(kit.write("x.pt2", data) if fitting else path.write_bytes(data) and path, "infer export")


def test_the_good_ones_are_not_refused(kit: Kit, refused: Refuse) -> None:
    refused(kit.write("x.pt2", kit.pt2), "inspect", status=1)
    from lite.backends import open_backend

    assert open_backend(kit.write("x.pt2", kit.pt2)).spec.batch_range == (1, 8)
