"""One file from an https address, in pieces that survive an interruption: `fetch`. Standard library only.

What has arrived is kept in a `.part` file beside the final name; the next call asks for the rest (`Range`).
"""

import contextlib
import http.client
import os
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from lite.errors import InputError, first_line

try:
    import fcntl
except ImportError:  # Windows: two downloads of one file at once are told apart by the check of the content alone
    fcntl = None

PIECE = 1 << 20  # bytes read at once
TIMEOUT_S = 30.0  # without a byte
TRIES = 4  # calls of the server in one run; each goes on where the last one stopped
Progress = Callable[[int, int | None], None]  # bytes there, bytes in all if known


def only_https(url: str) -> bool:
    """What may be fetched, redirections included."""
    return url.lower().startswith("https://")


def fetch(
    url: str,
    part: Path,
    progress: Progress = lambda done, total: None,
    allowed: Callable[[str], bool] = only_https,
    pause_s: float = 2.0,
) -> None:
    """Complete `part` from a server; on failure what has arrived stays there for the next call.

    Args:
        url: address of the file.
        part: file to write; bytes in it already are taken as the start of the file.
        allowed: whether an address may be asked.
        pause_s: wait after a broken connection, doubled each time.

    Raises:
        InputError: no such file, no connection, it broke again and again, or the disk is full; one sentence.
    """
    if not allowed(url):
        raise InputError(f"{url}: expected an https address, found another kind; nothing was fetched")
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("ab") as file, _alone(file, part):
        for attempt in range(TRIES):
            before = file.seek(0, os.SEEK_END)
            try:
                if _ask(url, file, progress, allowed):
                    return
                why = "the connection ended early"
            except urllib.error.HTTPError as problem:
                if problem.code < 500 and problem.code != 429:
                    raise InputError(
                        f"{url}: expected the file, the server answers {problem.code} {problem.reason}; it may have "
                        "moved: fetch it by hand and put it in the checkpoints folder"
                    ) from None
                why = f"the server answers {problem.code} {problem.reason}"
            except (
                urllib.error.URLError,
                http.client.HTTPException,
                ssl.SSLError,
                TimeoutError,
                ConnectionError,
            ) as problem:
                why = first_line(getattr(problem, "reason", None) or problem)
            except OSError as problem:
                raise InputError(f"{part}: cannot be written ({problem.strerror}); free some space") from None
            if attempt + 1 < TRIES:
                time.sleep(pause_s * 2**attempt if file.seek(0, os.SEEK_END) == before else 0)
    raise InputError(
        f"{url}: {why}, {TRIES} times; {part.stat().st_size} bytes are kept and the same command goes on from there"
    )


def _ask(url: str, file: IO[bytes], progress: Progress, allowed: Callable[[str], bool]) -> bool:
    """One request for what is missing; whether the file is complete now."""
    have = file.seek(0, os.SEEK_END)
    headers = {"Accept-Encoding": "identity", "User-Agent": "hpe-lite"}
    if have:
        headers["Range"] = f"bytes={have}-"
    opener = urllib.request.build_opener(_Redirects(allowed))
    try:
        answer = opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as problem:
        if problem.code != 416 or not have:
            raise
        if problem.headers.get("Content-Range", "") == f"bytes */{have}":
            return True
        file.truncate(0)  # longer than the file, or of another one
        return False
    with answer:
        if have and not (answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")):
            file.truncate(0)  # the server sends everything again
            have = 0
        length = answer.headers.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() and len(length) < 20 else None
        if total is not None and shutil.disk_usage(Path(file.name).parent).free < total - have:
            raise InputError(f"{file.name}: expected {total - have} free bytes for the rest of the file, found fewer")
        done = have
        while piece := answer.read(PIECE):
            file.write(piece)
            done += len(piece)
            progress(done, total)
        file.flush()
        return total is None or done == total


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirection only to an address that may be asked."""

    def __init__(self, allowed: Callable[[str], bool]) -> None:
        self.allowed = allowed

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        """The next request.

        Raises:
            InputError: it leads to another kind of address.
        """
        if not self.allowed(newurl):
            raise InputError(
                f"{req.full_url}: the server leads on to {newurl}, which is not https; nothing was fetched"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextlib.contextmanager
def _alone(file: IO[bytes], part: Path) -> Iterator[None]:
    """Only one process writes a part."""
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{part}: another download of this file is running; wait for it") from None
    yield  # closing the file gives the lock back
