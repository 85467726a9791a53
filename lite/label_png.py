"""Label maps as PNG bytes and back: one byte a pixel, the class, with the colours of the classes beside it.

OpenCV, which reads and writes all other pictures here, turns the pixels of a palette PNG into colours and cannot write
one, so the few bytes around the compressed data are handled here.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from lite.errors import InputError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGEST_PIXELS = 200_000_000
COMPRESSION = 4  # of zlib; a 4K map takes a third of the time of level 6 and some percent more bytes
_GREY, _PALETTE = 0, 3
_KINDS = {2: "a colour picture", 4: "a grey picture with transparency", 6: "a colour picture with transparency"}


def encode_labels(labels: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> bytes:
    """A palette PNG.

    Args:
        labels: (H, W) uint8, H and W at least 1.
        palette: RGB of each label; labels beyond it are shown white.

    Raises:
        ValueError: nothing to write, or more than 256 colours.
    """
    h, w = labels.shape
    if labels.dtype != np.uint8 or not labels.size or len(palette) > 256:
        raise ValueError(f"expected (H, W) uint8 and up to 256 colours, found {labels.shape} {labels.dtype}")
    used = max(len(palette), int(labels.max()) + 1)
    colors = np.full((used, 3), 255, np.uint8)
    colors[: len(palette)] = np.asarray(palette, np.uint8).reshape(-1, 3)
    rows = np.empty((h, w + 1), np.uint8)
    rows[:, 0] = 2  # each row is stored as its difference to the one above, mostly zeros here
    rows[0, 1:] = labels[0]
    np.subtract(labels[1:], labels[:-1], out=rows[1:, 1:])
    header = struct.pack(">IIBBBBB", w, h, 8, _PALETTE, 0, 0, 0)
    data = zlib.compress(rows, COMPRESSION)
    parts = [(b"IHDR", header), (b"PLTE", colors.tobytes()), (b"IDAT", data), (b"IEND", b"")]
    return SIGNATURE + b"".join(_chunk(kind, body) for kind, body in parts)


def decode_labels(data: bytes) -> tuple[np.ndarray, tuple[tuple[int, int, int], ...]]:
    """Labels of a PNG: indices of a palette picture, values of a grey one.

    Returns:
        labels (H, W) uint8; RGB of each label, () for a grey picture.

    Raises:
        InputError: not such a PNG, damaged, or larger than `LARGEST_PIXELS`.
    """
    chunks = list(_chunks(data))
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        raise InputError("expected a PNG with labels, found something else or a damaged one")
    w, h, depth, kind, compression, filters, interlace = struct.unpack(">IIBBBBB", chunks[0][1])
    if kind not in (_GREY, _PALETTE):
        raise InputError(f"expected a label map (a grey or palette PNG), found {_KINDS.get(kind, 'another kind')}")
    if not 0 < w * h <= LARGEST_PIXELS:
        raise InputError(f"expected at most {LARGEST_PIXELS} pixels, found {w} x {h}")
    # As a grey picture OpenCV gives the indices themselves.
    header = struct.pack(">IIBBBBB", w, h, depth, _GREY, compression, filters, interlace)
    parts = [(b"IHDR", header), *(chunk for chunk in chunks if chunk[0] in (b"IDAT", b"IEND"))]
    grey = SIGNATURE + b"".join(_chunk(name, body) for name, body in parts)
    try:
        labels = cv2.imdecode(np.frombuffer(grey, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        labels = None
    if labels is None or labels.shape != (h, w):
        raise InputError("the PNG file is damaged or of a variant that cannot be read")
    if depth < 8:
        labels //= 255 // (2**depth - 1)  # OpenCV spreads 1, 2 and 4 bits over 0..255
    elif depth == 16 and labels.max() > 255:
        raise InputError("expected labels from 0 to 255, found a 16-bit picture with larger ones")
    palette = next((body for name, body in chunks if name == b"PLTE"), b"") if kind == _PALETTE else b""
    colors = np.frombuffer(palette[: len(palette) // 3 * 3], np.uint8).reshape(-1, 3)
    return labels.astype(np.uint8), tuple(map(tuple, colors.tolist()))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of each chunk up to IEND.

    Raises:
        InputError: not a PNG, or one that ends early or whose checksum is wrong.
    """
    if data[:8] != SIGNATURE:
        raise InputError("expected a PNG with labels, found another kind of file")
    start, view = 8, memoryview(data)
    while True:
        if start + 12 > len(data):
            raise InputError("the PNG file is damaged: it ends early")
        (length,) = struct.unpack_from(">I", data, start)
        kind, body = bytes(view[start + 4 : start + 8]), bytes(view[start + 8 : start + 8 + length])
        end = start + 12 + length
        if end > len(data) or struct.unpack_from(">I", data, end - 4)[0] != zlib.crc32(body, zlib.crc32(kind)):
            raise InputError("the PNG file is damaged: a part of it does not match its checksum")
        yield kind, body
        if kind == b"IEND":
            return
        start = end
