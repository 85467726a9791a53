"""The trust file keeps every hash, and is an error whenever somebody else could have written it."""

import json
import os
import stat
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from lite.errors import ConfigError, UnsafeFileError
from lite.trust import is_trusted, remember, trust_path

HASH = "ab" * 32
POSIX = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config" / "trusted.json"
    monkeypatch.setenv("HPE_LITE_TRUST", str(path))
    return path


def test_what_is_remembered_is_trusted_and_nothing_else(path: Path) -> None:
    assert not is_trusted(HASH) and not path.exists()
    remember(HASH, "x.pt2")
    remember("cd" * 32, "y.engine")
    assert is_trusted(HASH) and is_trusted("cd" * 32) and not is_trusted("ef" * 32)
    assert json.loads(path.read_text())["trusted"][HASH]["name"] == "x.pt2"
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["trusted.json", "trusted.json.lock"]


@POSIX
def test_only_the_user_can_read_and_write_it(path: Path) -> None:
    remember(HASH, "x.pt2")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert trust_path() == tmp_path / "config" / "trusted.json"
    monkeypatch.setenv("HPE_LITE_TRUST", "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert trust_path() == tmp_path / "hpe-lite" / "trusted.json"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert trust_path() == Path("/home/someone/.config/hpe-lite/trusted.json")


@POSIX
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o777])
def test_others_could_write_it(path: Path, mode: int) -> None:
    remember(HASH, "x.pt2")
    path.chmod(mode)
    with pytest.raises(UnsafeFileError, match="writable by nobody else"):
        is_trusted(HASH)
    with pytest.raises(UnsafeFileError, match="writable by nobody else"):
        remember("cd" * 32, "y.pt2")


@POSIX
def test_somebody_else_owns_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(HASH, "x.pt2")
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(UnsafeFileError, match="to be yours"):
        is_trusted(HASH)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        json.dumps({"schema": "other", "trusted": {HASH: {}}}),
        json.dumps({"schema": "hpe-lite/trust/1"}),
        json.dumps({"schema": "hpe-lite/trust/1", "trusted": {"*": {}}}),
        json.dumps({"schema": "hpe-lite/trust/1", "trusted": None}),
    ],
)
def test_a_damaged_file_is_an_error_and_stays_as_it_is(path: Path, content: str) -> None:
    path.parent.mkdir()
    path.write_text(content)
    path.chmod(0o600)
    for act in (lambda: is_trusted(HASH), lambda: remember(HASH, "x.pt2")):
        with pytest.raises(UnsafeFileError, match="remove it"):
            act()
    assert path.read_text() == content


def test_things_that_are_no_file(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(UnsafeFileError, match="trust file"):
        is_trusted(HASH)
    path.rmdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(path, 0o600)
        with pytest.raises(UnsafeFileError, match="expected a file"):
            is_trusted(HASH)


def test_a_folder_that_cannot_be_made(path: Path) -> None:
    path.parent.write_text("in the way")
    with pytest.raises(ConfigError, match="HPE_LITE_TRUST"):
        remember(HASH, "x.pt2")


def _remember_many(start: int) -> None:
    for number in range(start, start + 10):
        remember(f"{number:064x}", "x")


def test_writers_at_the_same_time_lose_nothing(path: Path) -> None:
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        list(pool.map(_remember_many, range(0, 60, 10)))
    assert all(is_trusted(f"{number:064x}") for number in range(60))
