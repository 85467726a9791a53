"""One file over a connection that breaks, stalls, lies or leads elsewhere; the server is a thread of this test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lite.errors import InputError
from lite.models.fetch import TRIES, fetch, only_https
from tests.http_server import Server, here, serving

CONTENT = bytes(range(256)) * 5000


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(CONTENT) as made:
        yield made


def get(server: Server, part: Path) -> list[tuple[int, int | None]]:
    seen: list[tuple[int, int | None]] = []
    fetch(server.url, part, lambda done, total: seen.append((done, total)), here, pause_s=0)
    return seen


def test_a_whole_file(server: Server, tmp_path: Path) -> None:
    seen = get(server, tmp_path / "new" / "part")
    assert (tmp_path / "new" / "part").read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT)) and server.asked == [""]


def test_a_broken_connection_goes_on_in_the_same_call(server: Server, tmp_path: Path) -> None:
    server.breaks = [1000, 2000]
    get(server, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert server.asked == ["", "bytes=1000-", "bytes=3000-"]


def test_the_next_call_goes_on(server: Server, tmp_path: Path) -> None:
    server.breaks = [1000] * TRIES
    with pytest.raises(InputError, match=f"{1000 * TRIES} bytes are kept and the same command goes on"):
        get(server, tmp_path / "part")
    get(server, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT and server.asked[-1] == f"bytes={1000 * TRIES}-"


def test_a_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "part").write_bytes(b"something else")
    get(server, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT


@pytest.mark.parametrize("start", [CONTENT, CONTENT + b"more"])
def test_a_part_that_is_complete_or_too_long(server: Server, tmp_path: Path, start: bytes) -> None:
    (tmp_path / "part").write_bytes(start)
    get(server, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert len(server.asked) == (1 if start == CONTENT else 2)


def test_a_missing_file_is_said_at_once(server: Server, tmp_path: Path) -> None:
    server.status = [404]
    with pytest.raises(InputError, match="answers 404 Not Found"):
        get(server, tmp_path / "part")
    assert len(server.asked) == 1


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.status = [503, 429]
    get(server, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT and len(server.asked) == 3


def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    closed = Server(CONTENT)
    closed.server_close()
    with pytest.raises(InputError, match=f"refused.*{TRIES} times"):
        get(closed, tmp_path / "part")


@pytest.mark.parametrize("elsewhere", ["http://localhost:1/x", "ftp://127.0.0.1/x", "file:///etc/hostname"])
def test_redirections_stay_where_allowed(server: Server, tmp_path: Path, elsewhere: str) -> None:
    server.elsewhere = elsewhere
    with pytest.raises(InputError, match=r"leads on to|is not allowed"):
        get(server, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == b""


@pytest.mark.parametrize("url", ["http://127.0.0.1/x", "file:///etc/hostname", "ftp://x/y", "x"])
def test_only_https_is_asked(url: str, tmp_path: Path) -> None:
    assert not only_https(url) and only_https("https://x/y")
    with pytest.raises(InputError, match="expected an https address"):
        fetch(url, tmp_path / "part")
    assert not (tmp_path / "part").exists()


def test_two_at_once(server: Server, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    with (tmp_path / "part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another download"):
            get(server, tmp_path / "part")
    assert server.asked == []


def test_a_full_disk_is_seen_before(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lite.models.fetch.shutil.disk_usage", lambda folder: type("", (), {"free": 10})())
    with pytest.raises(InputError, match=f"expected {len(CONTENT)} free bytes"):
        get(server, tmp_path / "part")
