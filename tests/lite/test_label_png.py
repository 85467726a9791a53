"""Label maps written here are read the same by everybody, and those of others are read here, or refused."""

import io
import struct
import time
import zlib

import cv2
import numpy as np
import pytest

from lite.errors import InputError
from lite.label_png import SIGNATURE, _chunk, decode_labels, encode_labels
from lite.label_sets import load_label_set

PALETTE = load_label_set("goliath28").palette


def blobs(h: int, w: int, count: int = 28) -> np.ndarray:
    """Something like a segmentation: smooth regions."""
    noise = np.random.default_rng(h * w).normal(size=(h // 40 + 3, w // 40 + 3, count)).astype(np.float32)
    return cv2.resize(noise, (w, h), interpolation=cv2.INTER_CUBIC).argmax(2).astype(np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (63, 41)])
def test_round_trip(size: tuple[int, int]) -> None:
    labels = np.random.default_rng(1).integers(0, 28, size).astype(np.uint8)
    found, palette = decode_labels(encode_labels(labels, PALETTE))
    np.testing.assert_array_equal(found, labels)
    assert found.dtype == np.uint8 and palette == PALETTE


def test_labels_beyond_the_palette_are_white() -> None:
    labels = np.array([[0, 1, 255]], np.uint8)
    found, palette = decode_labels(encode_labels(labels, PALETTE[:2]))
    np.testing.assert_array_equal(found, labels)
    assert len(palette) == 256 and palette[:2] == PALETTE[:2] and palette[255] == (255, 255, 255)


def test_others_read_what_is_written() -> None:
    labels = blobs(70, 90)
    data = encode_labels(labels, PALETTE)
    colors = np.array(PALETTE, np.uint8)[labels]
    read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(cv2.cvtColor(read, cv2.COLOR_BGR2RGB), colors)
    image = pytest.importorskip("PIL.Image").open(io.BytesIO(data))
    assert image.mode == "P"
    np.testing.assert_array_equal(np.array(image), labels)
    np.testing.assert_array_equal(np.array(image.convert("RGB")), colors)


def png(rows: np.ndarray, w: int, h: int, depth: int, kind: int, filters: int = 0, interlace: int = 0) -> bytes:
    body = zlib.compress(np.insert(rows, 0, filters, axis=1).tobytes())
    header = struct.pack(">IIBBBBB", w, h, depth, kind, 0, 0, interlace)
    colors = bytes(range(3 * 2 ** min(depth, 8)))[:768] if depth < 8 else bytes(768)
    parts = [(b"IHDR", header), *([(b"PLTE", colors)] if kind == 3 else []), (b"tEXt", b"x\0y"), (b"IDAT", body)]
    return SIGNATURE + b"".join(_chunk(name, part) for name, part in [*parts, (b"IEND", b"")])


@pytest.mark.parametrize("kind", [0, 3])
@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_depths_of_others(depth: int, kind: int) -> None:
    labels = np.random.default_rng(depth).integers(0, 2**depth, (6, 16)).astype(np.uint8)
    bits = np.unpackbits(labels[..., None], axis=2)[..., 8 - depth :].reshape(6, -1)
    found, palette = decode_labels(png(np.packbits(bits, axis=1), 16, 6, depth, kind))
    np.testing.assert_array_equal(found, labels)
    assert bool(palette) == (kind == 3)


def test_filters_of_others() -> None:
    """What OpenCV and Pillow write, with the row filters they choose."""
    labels = blobs(61, 47, 60)
    done, data = cv2.imencode(".png", labels)
    assert done
    np.testing.assert_array_equal(decode_labels(data.tobytes())[0], labels)
    image = pytest.importorskip("PIL.Image").fromarray(labels)
    for mode in ("L", "P"):
        file = io.BytesIO()
        image.convert(mode).save(file, "png", optimize=True)
        if mode == "L":
            np.testing.assert_array_equal(decode_labels(file.getvalue())[0], labels)
        else:
            found, palette = decode_labels(file.getvalue())
            np.testing.assert_array_equal(np.array(palette)[found][..., 0], labels)


def test_sixteen_bits() -> None:
    for most, fits in ((255, True), (256, False)):
        data = cv2.imencode(".png", np.full((3, 4), most, np.uint16))[1].tobytes()
        if fits:
            assert (decode_labels(data)[0] == 255).all()
        else:
            with pytest.raises(InputError, match="from 0 to 255"):
                decode_labels(data)


GOOD = encode_labels(np.zeros((4, 5), np.uint8), PALETTE)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "another kind of file"),
        (b"\xff\xd8\xff", "another kind of file"),
        (GOOD[:8], "ends early"),
        (GOOD[:-12], "ends early"),
        (GOOD[:-20], "checksum"),
        (GOOD[:30] + b"\0" + GOOD[31:], "checksum"),
        (SIGNATURE + _chunk(b"IEND", b""), "something else"),
        (cv2.imencode(".png", np.zeros((3, 3, 3), np.uint8))[1].tobytes(), "found a colour picture"),
        (cv2.imencode(".png", np.zeros((3, 3, 4), np.uint8))[1].tobytes(), "with transparency"),
        (png(np.zeros((1, 1), np.uint8), 2**20, 2**20, 8, 0), "at most 200000000 pixels"),
        (png(np.zeros((1, 1), np.uint8), 0, 5, 8, 0), "at most 200000000 pixels"),
    ],
)
def test_other_files_are_refused(data: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        decode_labels(data)


@pytest.mark.parametrize("labels", [np.zeros((0, 4), np.uint8), np.zeros((2, 2), np.int64)])
def test_only_bytes_are_written(labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        encode_labels(labels, PALETTE)


def test_a_large_map_is_quick_and_small() -> None:
    labels = cv2.resize(blobs(540, 960), (3840, 2160), interpolation=cv2.INTER_NEAREST)
    start = time.process_time()
    data = encode_labels(labels, PALETTE)
    assert time.process_time() - start < 2 and len(data) < labels.size // 50
