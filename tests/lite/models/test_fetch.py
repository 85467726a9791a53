"""One file over a connection that breaks, stalls, lies or leads elsewhere; the server is a thread of this test."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lite.errors import InputError
from lite.models.fetch import TRIES, fetch, only_https

CONTENT = bytes(range(256)) * 5000


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT; the attributes say how badly."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.ranges = True
        self.breaks: list[int] = []  # bytes after which the next answers end
        self.status: list[int] = []  # of the next answers
        self.elsewhere = ""
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights.pth"


class Answers(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.server.asked.append(wanted)
        if self.server.elsewhere:
            self.send_response(302)
            self.send_header("Location", self.server.elsewhere)
            self.end_headers()
            return
        if self.server.status:
            self.send_error(self.server.status.pop(0))
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.server.ranges else 0
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.end_headers()
        stop = self.server.breaks.pop(0) if self.server.breaks else len(CONTENT)
        self.wfile.write(CONTENT[start : start + stop])

    def log_message(self, *_: object) -> None:
        """Silence."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def here(url: str) -> bool:
    return url.startswith("http://127.0.0.1:")


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
    closed = Server()
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
