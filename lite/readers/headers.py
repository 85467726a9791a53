"""Kind, size and orientation of a picture from its first bytes, before any pixel is decoded."""

import re
import struct
from dataclasses import dataclass

from lite.errors import InputError

# In JPEG picture data a 0xFF byte is followed by 0 or a restart marker; anything else is a real marker.
_MARKER_IN_DATA = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True, kw_only=True)
class Header:
    """What the first bytes say.

    Attributes:
        kind: jpeg, png, webp, bmp or tiff.
        size_hw: (H, W) as stored, before orientation.
        orientation: EXIF value 1..8, 1 = as stored.
    """

    kind: str
    size_hw: tuple[int, int]
    orientation: int = 1


def read_header(data: bytes) -> Header:
    """Read the header of a whole picture file.

    Raises:
        InputError: empty, not one of the five kinds, cut short, or without a usable size.
    """
    if not data:
        raise InputError("the file is empty")
    for kind, fits, read in _KINDS:
        if fits(data):
            try:
                header = read(data)
            except (struct.error, IndexError, ValueError):
                raise InputError(f"the {kind} file is truncated or damaged") from None
            if min(header.size_hw) < 1:
                raise InputError(f"the {kind} file has a size of {header.size_hw[1]} x {header.size_hw[0]} pixels")
            return header
    raise InputError("not a picture: expected jpeg, png, webp, bmp or tiff content")


def _jpeg(data: bytes) -> Header:
    size_hw, orientation, at = None, 1, 2
    while True:
        at = data.index(0xFF, at)  # decoders step over stray bytes between segments
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == 0xD9:  # end of image
            break
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without content
            at += 2
            continue
        length = struct.unpack_from(">H", data, at + 2)[0]
        if marker in _SIZE_MARKERS:
            size_hw = struct.unpack_from(">HH", data, at + 5)
        elif marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = _exif_orientation(data[at + 10 : at + 2 + length])
        at += 2 + length
        if marker == 0xDA:  # picture data runs up to the next marker; none means the end is missing
            found = _MARKER_IN_DATA.search(data, at)
            if found is None:
                raise ValueError
            at = found.start()
    if size_hw is None:
        raise ValueError
    return Header(kind="jpeg", size_hw=size_hw, orientation=orientation)


def _png(data: bytes) -> Header:
    w, h = struct.unpack_from(">II", data, 16)
    orientation, at = 1, 8
    while True:
        length, name = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            raise ValueError
        if name == b"eXIf":
            orientation = _exif_orientation(data[at + 8 : at + 8 + length])
        if name == b"IEND":
            return Header(kind="png", size_hw=(h, w), orientation=orientation)
        at += 12 + length


def _webp(data: bytes) -> Header:
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    if end > len(data):
        raise ValueError
    size_hw, orientation, at = None, 1, 12
    while at + 8 <= end:
        name, length = struct.unpack_from("<4sI", data, at)
        body = at + 8
        if name == b"VP8X":
            size_hw = (_u24(data, body + 7) + 1, _u24(data, body + 4) + 1)
        elif name == b"VP8 " and size_hw is None:
            w, h = struct.unpack_from("<HH", data, body + 6)
            size_hw = (h & 0x3FFF, w & 0x3FFF)
        elif name == b"VP8L" and size_hw is None:
            bits = struct.unpack_from("<I", data, body + 1)[0]
            size_hw = ((bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1)
        elif name == b"EXIF":
            orientation = _exif_orientation(data[body : body + length].removeprefix(b"Exif\0\0"))
        at = body + length + length % 2
    if size_hw is None:
        raise ValueError
    return Header(kind="webp", size_hw=size_hw, orientation=orientation)


def _bmp(data: bytes) -> Header:
    if struct.unpack_from("<I", data, 14)[0] == 12:  # OS/2 header with 16-bit sizes
        w, h = struct.unpack_from("<HH", data, 18)
    else:
        w, h = struct.unpack_from("<ii", data, 18)
    return Header(kind="bmp", size_hw=(abs(h), w))  # a negative height means rows from the top


def _tiff(data: bytes) -> Header:
    tags = _tiff_tags(data)
    return Header(kind="tiff", size_hw=(tags[0x101], tags[0x100]), orientation=tags.get(0x112, 1))


def _exif_orientation(block: bytes) -> int:
    """Orientation in a TIFF-structured EXIF block; 1 where the block is damaged, as viewers do."""
    try:
        value = _tiff_tags(block).get(0x112, 1)
    except (struct.error, ValueError):
        return 1
    return value if 1 <= value <= 8 else 1


def _tiff_tags(data: bytes) -> dict[int, int]:
    """Integer tags of the first directory."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise ValueError
    start = struct.unpack_from(order + "I", data, 4)[0]
    tags = {}
    for entry in range(struct.unpack_from(order + "H", data, start)[0]):
        tag, kind, count = struct.unpack_from(order + "HHI", data, start + 2 + 12 * entry)
        if kind in (3, 4) and count == 1:  # 16-bit or 32-bit number stored in place
            tags[tag] = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, start + 10 + 12 * entry)[0]
    if data[2:4] in (b"*\0", b"\0*") and not tags:
        raise ValueError
    return tags


def _u24(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 3], "little")


_KINDS = (
    ("jpeg", lambda data: data[:3] == b"\xff\xd8\xff", _jpeg),
    ("png", lambda data: data[:8] == b"\x89PNG\r\n\x1a\n", _png),
    ("webp", lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP", _webp),
    ("bmp", lambda data: data[:2] == b"BM", _bmp),
    ("tiff", lambda data: data[:4] in (b"II*\0", b"MM\0*"), _tiff),
)
