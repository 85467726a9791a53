"""Write beside and rename, so that a half file is never mistaken for a result."""

import os
import threading
from pathlib import Path

from lite.errors import ConfigError


def write_bytes(path: Path, data: bytes) -> None:
    """Put a complete file at `path`, replacing what is there; folders are made.

    Raises:
        ConfigError: the place cannot be written, or the disk is full.
    """
    partial = path.with_name(f".{os.getpid()}.{threading.get_ident()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as problem:
        raise ConfigError(
            f"output: {path} cannot be written ({problem.strerror or problem}); make room or choose another folder, "
            "then run again"
        ) from problem
    finally:
        # Only there when something went wrong, an interruption included; best effort on a failing disk.
        if partial.exists():
            partial.unlink(missing_ok=True)
