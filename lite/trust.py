"""The user's trust file: SHA-256 of the files with machine code that this installation built and checked itself.

Compiled packages and TensorRT engine files are native code, so a backend opens one only when its hash is in here, or
with `--trust`. Whoever can write this file can have code run, so it must belong to the user and be writable by nobody
else; one that is not, or is damaged, is an error and never counts as "not trusted" or "trusted".
"""

import contextlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lite.errors import ConfigError, UnsafeFileError

try:
    import fcntl
except ImportError:  # Windows, where a lock file's replacement is left to the last writer
    fcntl = None

TRUST_SCHEMA = "hpe-lite/trust/1"
LARGEST = 64 * 2**20  # bytes; some 400 000 entries


def trust_path() -> Path:
    """HPE_LITE_TRUST, else hpe-lite/trusted.json in XDG_CONFIG_HOME or ~/.config."""
    if named := os.environ.get("HPE_LITE_TRUST"):
        return Path(named)
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(base) / "hpe-lite" / "trusted.json"


def is_trusted(sha256: str) -> bool:
    """Whether this installation built the file with this hash.

    Raises:
        UnsafeFileError: the trust file is damaged, or others could have written it.
    """
    return _sha256(sha256) in _read(trust_path())


def remember(sha256: str, name: str) -> None:
    """Add a file to the trust file.

    Args:
        sha256: of its content, 64 hexadecimal digits.
        name: what people call it; kept for reading only.

    Raises:
        UnsafeFileError: the trust file is damaged, or others could have written it.
        ConfigError: the trust file cannot be written.
    """
    path = trust_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(path):
            entries = _read(path)
            entries[_sha256(sha256)] = {"name": name, "added": datetime.now(UTC).isoformat(timespec="seconds")}
            _write(path, entries)
    except OSError as problem:
        raise ConfigError(
            f"trust file: {path} cannot be written ({problem.strerror}); set HPE_LITE_TRUST to a file of your own, or "
            f"open {name} with --trust"
        ) from None


def _sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError(f"expected 64 hexadecimal digits, found {text!r}")
    return text


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One writer at a time; the lock is a file beside, because the trust file itself is replaced."""
    descriptor = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | _flag("O_NOFOLLOW"), 0o600)
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read(path: Path) -> dict[str, Any]:
    """Entries by hash; none when there is no such file yet."""
    try:  # not blocking, so that a pipe in its place is an error and not an endless wait
        descriptor = os.open(path, os.O_RDONLY | _flag("O_NONBLOCK") | _flag("O_CLOEXEC"))
    except FileNotFoundError:
        return {}
    except OSError as problem:
        raise UnsafeFileError(
            f"trust file: {path} cannot be read ({problem.strerror}); check its permissions"
        ) from None
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise UnsafeFileError(f"trust file: expected a file, found something else at {path}; remove it")
        if hasattr(os, "geteuid") and (state.st_uid != os.geteuid() or state.st_mode & 0o022):
            raise UnsafeFileError(
                f"trust file: expected {path} to be yours and writable by nobody else, found owner {state.st_uid} and "
                f"mode {stat.S_IMODE(state.st_mode):03o}; remove it, or after reading it run chmod 600"
            )
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(LARGEST)
    finally:
        os.close(descriptor)
    try:
        document = json.loads(data)
        entries = document["trusted"]
        if document["schema"] != TRUST_SCHEMA or not all(_sha256(key) for key in entries):
            raise ValueError("another schema")
        return dict(entries)
    except (ValueError, TypeError, KeyError, RecursionError) as problem:
        raise UnsafeFileError(
            f"trust file: expected JSON of schema {TRUST_SCHEMA} in {path}, found something else "
            f"({type(problem).__name__}); remove it and export your compiled files again"
        ) from None


def _write(path: Path, entries: dict[str, Any]) -> None:
    """Complete or not at all, readable and writable by the user alone."""
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump({"schema": TRUST_SCHEMA, "trusted": entries}, file, indent=2)
            file.write("\n")
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def _flag(name: str) -> int:
    """An `os.open` flag, 0 where the system has none."""
    return getattr(os, name, 0)
