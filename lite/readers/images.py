"""Still pictures: list them from files, folders, globs and list files, and read one to RGB."""

import glob
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lite.errors import InputError
from lite.readers.headers import read_header
from lite.structures import Frame

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
MAX_PIXELS = 200_000_000
# EXIF orientation -> (swap axes first, then flip: None, 0 = top to bottom, 1 = left to right, -1 = both).
_ORIENT = {2: (False, 1), 3: (False, -1), 4: (False, 0), 5: (True, None), 6: (True, 1), 7: (True, -1), 8: (True, 0)}


@dataclass(frozen=True, kw_only=True)
class Item:
    """One picture to process.

    Attributes:
        path: where it is.
        name: its place below the input it was found in, with "/" between folders; results get the same place.
        root: folder the name is relative to.
    """

    path: Path
    name: str
    root: Path

    @property
    def source(self) -> str:
        """How results name the picture."""
        return str(self.path)


def list_pictures(inputs: Iterable[str | os.PathLike[str]], recursive: bool = True) -> list[Item]:
    """List the pictures of several inputs, each in natural order ("2" before "10"), every file once.

    Args:
        inputs: pictures, folders, globs, or .txt files with one path a line (relative to the list's folder, else to
            the working directory).
        recursive: whether folders are searched with their subfolders.

    Raises:
        InputError: an input that does not exist, or one with no picture in it.
    """
    items: dict[str, Item] = {}
    for one in inputs:
        for item in _list_one(os.fspath(one), recursive):
            items.setdefault(os.path.abspath(item.path), item)
    return list(items.values())


def read_frame(item: Item, max_pixels: int = MAX_PIXELS) -> Frame:
    """Read a listed picture; errors as `read_picture`."""
    return Frame(pixels=read_picture(item.path, max_pixels), source=item.source)


def read_picture(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read one picture of any usual kind.

    16-bit pictures are scaled to 8 bits, grey and palette ones widened to three channels, transparency is dropped, of
    an animated picture the first frame is taken, and the EXIF orientation is applied.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        InputError: missing, empty, truncated, not a picture, or more than `max_pixels` pixels.
    """
    try:
        status = os.stat(path)
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):  # a pipe would be waited for, for ever
            raise InputError("expected a file, found a pipe, socket or device")
        # Nothing that fits in max_pixels is larger uncompressed than 16 bits in 4 channels and some metadata.
        if status.st_size > max_pixels * 8 + (64 << 20):
            raise InputError(f"the file is too large for a picture of at most {max_pixels} pixels (--max-pixels)")
        data = Path(path).read_bytes()
    except OSError as problem:
        raise InputError(f"cannot be read: {problem.strerror or problem}") from None
    header = read_header(data)
    h, w = header.size_hw
    if h * w > max_pixels:
        raise InputError(f"{w} x {h} pixels are more than the {max_pixels} allowed; raise --max-pixels to read it")
    # The TIFF library applies orientation itself, flag or not; for the others it is applied here, once.
    flags = cv2.IMREAD_COLOR if header.kind == "tiff" else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise InputError(f"the {header.kind} file is damaged or of a variant that cannot be read")
    pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return pixels if header.kind == "tiff" else _orient(pixels, header.orientation)


def _orient(pixels: np.ndarray, orientation: int) -> np.ndarray:
    if orientation not in _ORIENT:
        return pixels
    swap, flip = _ORIENT[orientation]
    if swap:
        pixels = cv2.transpose(pixels)
    return pixels if flip is None else cv2.flip(pixels, flip)


def _list_one(given: str, recursive: bool) -> list[Item]:
    if os.path.isdir(given):
        items = [_item(path, Path(given)) for path in _walk(given, recursive)]
        return _some(items, f"{given}: found no pictures; expected files ending in {' '.join(PICTURE_SUFFIXES)}")
    if os.path.isfile(given):
        if given.lower().endswith(".txt"):
            return _some(_read_list(Path(given)), f"{given}: found no lines; expected one picture path a line")
        return [_item(Path(given), Path(given).parent)]
    if glob.has_magic(given):
        return _some(_expand(given, recursive), f"{given}: the pattern matches no pictures")
    raise InputError(f"{given}: expected a picture, folder, glob or .txt list, found nothing there")


def _some(items: list[Item], otherwise: str) -> list[Item]:
    if not items:
        raise InputError(otherwise)
    return items


def _item(path: Path, root: Path) -> Item:
    return Item(path=path, name=Path(os.path.relpath(path, root)).as_posix(), root=root)


def _walk(folder: str, recursive: bool) -> Iterator[Path]:
    """Pictures in a folder, hidden ones left out; a folder named like a picture that holds none counts as a bad one."""
    found: list[Path] = []
    seen: set[str] = set()
    for here, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        real = os.path.realpath(here)
        # A link that leads back into a folder already searched would never end.
        folders[:] = [] if real in seen or not recursive else [f for f in folders if not f.startswith(".")]
        if real in seen:
            continue
        seen.add(real)
        found += [Path(here, f) for f in files if not f.startswith(".") and f.lower().endswith(PICTURE_SUFFIXES)]
        if here != folder and here.lower().endswith(PICTURE_SUFFIXES) and not (files or folders):
            found.append(Path(here))
    return iter(sorted(found, key=lambda path: _natural(path.as_posix())))


def _refuse(problem: OSError) -> None:
    raise InputError(f"{problem.filename}: the folder cannot be read: {problem.strerror}")


def _read_list(path: Path) -> list[Item]:
    """Paths in a list file, in its order; each keeps its own folder. Missing ones fail when they are read."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise InputError(f"{path}: expected a text file with one picture path a line ({problem})") from None
    given = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if any("\0" in line for line in given):
        raise InputError(f"{path}: expected a text file with one picture path a line, found bytes that are no text")
    beside = [path.parent / line for line in given]
    there = os.path.exists  # unlike Path.exists, also answers for names that no disk could hold
    paths = [near if there(near) or not there(line) else Path(line) for near, line in zip(beside, given)]
    return _items_below_common_folder(paths)


def _expand(pattern: str, recursive: bool) -> list[Item]:
    paths: list[Path] = []
    for match in sorted(glob.glob(pattern, recursive=True), key=_natural):
        if os.path.isdir(match) and not match.lower().endswith(PICTURE_SUFFIXES):
            paths += _walk(match, recursive) if recursive else []
        elif match.lower().endswith(PICTURE_SUFFIXES):
            paths.append(Path(match))
    return _items_below_common_folder(paths)


def _items_below_common_folder(paths: list[Path]) -> list[Item]:
    if not paths:
        return []
    root = Path(os.path.commonpath([os.path.abspath(path.parent) for path in paths]))
    return [Item(path=path, name=Path(os.path.relpath(path, root)).as_posix(), root=root) for path in paths]


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Sort key: runs of digits count as numbers, letters without regard to case; the text itself breaks ties."""
    parts = [(0, int(p), "") if p.isdecimal() else (1, 0, p.lower()) for p in re.split(r"([0-9]+)", text) if p]
    return [*parts, (2, 0, text)]
