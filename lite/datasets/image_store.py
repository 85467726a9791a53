"""`ImageStore`: pictures by name, from a folder or an uncompressed tar file."""

import os
import tarfile
import threading
from pathlib import Path

import cv2
import numpy as np

from lite.errors import InputError

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")  # endings of files that are pictures


class ImageStore:
    """Pictures by name from a folder or an uncompressed tar file.

    Safe to share between threads and to send to worker processes: only the path and the index travel, each process
    opens the file for itself.

    Args:
        path: folder, or `.tar` file; names are relative to the folder, or the member names.

    Raises:
        InputError: neither a folder nor a readable tar file.
    """

    def __init__(self, path: str | Path) -> None:
        self._file = None
        self._lock = threading.Lock()
        self.path = Path(path)
        self._members: dict[str, tuple[int, int]] | None = None
        if self.path.is_file():
            try:
                with tarfile.open(self.path, "r:") as tar:
                    self._members = {m.name.removeprefix("./"): (m.offset_data, m.size) for m in tar if m.isfile()}
            except (tarfile.TarError, OSError) as problem:
                raise InputError(
                    f"{self.path}: expected an uncompressed tar file of pictures, found something else ({problem})"
                ) from problem
        elif not self.path.is_dir():
            raise InputError(f"{self.path}: expected a folder or tar file of pictures, found nothing there")

    def __getstate__(self) -> dict:
        return {"path": self.path, "_members": self._members}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._file = None
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Names of all pictures, sorted, as `read` takes them."""
        if self._members is not None:
            return sorted(name for name in self._members if name.lower().endswith(PICTURES))
        found = (Path(folder, file) for folder, _, files in os.walk(self.path) for file in files)
        return sorted(p.relative_to(self.path).as_posix() for p in found if p.suffix.lower() in PICTURES)

    def read_bytes(self, name: str) -> bytes:
        """The stored file.

        Raises:
            InputError: no such picture in the store.
        """
        if self._members is None:
            try:
                if not (self.path / name).is_file():  # a device or a pipe would be read without end
                    raise FileNotFoundError(2, "no such file")
                return (self.path / name).read_bytes()
            except (OSError, ValueError) as problem:  # ValueError: a name no file can have
                why = getattr(problem, "strerror", None) or problem
                raise InputError(f"{self.path / name}: expected a picture, cannot read it ({why})") from problem
        if name not in self._members:
            raise InputError(
                f"{self.path}: holds no picture {name}; check that this is the tar file of the annotations"
            )
        offset, size = self._members[name]
        with self._lock:
            if self._file is None:
                self._file = open(self.path, "rb")  # noqa: SIM115 (kept open between reads)
            self._file.seek(offset)
            return self._file.read(size)

    def read(self, name: str) -> np.ndarray:
        """(H, W, 3) uint8 RGB of one picture, in the stored orientation (annotations speak of stored pixels).

        Raises:
            InputError: no such picture, or not a picture.
        """
        data = np.frombuffer(self.read_bytes(name), np.uint8)
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        try:
            pixels = cv2.imdecode(data, flags) if data.size else None
        except cv2.error:  # a header with a size it refuses
            pixels = None
        if pixels is None:
            raise InputError(f"{self.path}: {name} is no readable picture ({data.size} bytes)")
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)

    def close(self) -> None:
        """Close the tar file; reading opens it again."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def __del__(self) -> None:
        self.close()

    def __enter__(self) -> "ImageStore":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
