"""Listing and reading pictures: every kind, orientation, and every way a file can be bad."""

import os
import struct
import zlib

import cv2
import numpy as np
import pytest

from lite.errors import InputError
from lite.readers import list_pictures, read_picture
from lite.readers.headers import read_header

PIXELS = np.kron(np.random.default_rng(0).integers(0, 256, (3, 5, 3)), np.ones((16, 16, 1))).astype(np.uint8)
LOSSLESS = {".webp": [cv2.IMWRITE_WEBP_QUALITY, 101]}

# What the eight EXIF values mean for the stored rows and columns, from the EXIF standard.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


def _encode(suffix, pixels=PIXELS):
    bgr = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    return cv2.imencode(suffix, np.ascontiguousarray(bgr), LOSSLESS.get(suffix, []))[1].tobytes()


def _exif(orientation, order="<"):
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)


def _with_exif(suffix, data, orientation, order):
    block = _exif(orientation, order)
    if suffix == ".jpg":
        body = b"Exif\0\0" + block
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    if suffix == ".png":
        chunk = struct.pack(">I", len(block)) + b"eXIf" + block
        return data[:33] + chunk + struct.pack(">I", zlib.crc32(chunk[4:])) + data[33:]
    h, w = PIXELS.shape[:2]
    extended = struct.pack("<4sIB3x", b"VP8X", 10, 0x08) + (w - 1).to_bytes(3, "little") + (h - 1).to_bytes(3, "little")
    block += b"\0" * (len(block) % 2)
    body = b"WEBP" + extended + data[12:] + struct.pack("<4sI", b"EXIF", len(block)) + block
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_exif_orientation_is_applied_once(tmp_path, suffix, orientation, order):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(_with_exif(suffix, _encode(suffix), orientation, order))
    pixels, expected = read_picture(path), UPRIGHT[orientation](PIXELS)
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).mean() < (8 if suffix == ".jpg" else 1e-9)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff"])
def test_every_kind_is_read_as_rgb_whatever_its_name(tmp_path, suffix):
    path = tmp_path / "picture.jpeg"
    path.write_bytes(_encode(suffix))
    pixels = read_picture(path)
    assert pixels.dtype == np.uint8 and pixels.shape == PIXELS.shape
    assert np.abs(pixels.astype(int) - PIXELS).mean() < (8 if suffix == ".jpg" else 1e-9)
    assert read_header(path.read_bytes()).size_hw == PIXELS.shape[:2]


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_16_bit_grey_and_alpha_become_8_bit_rgb(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(_encode(suffix, PIXELS.astype(np.uint16) * 257))
    assert np.array_equal(read_picture(path), PIXELS)
    path.write_bytes(_encode(suffix, PIXELS[..., 0].copy()))
    assert np.array_equal(read_picture(path), np.repeat(PIXELS[..., :1], 3, axis=2))
    alpha = np.concatenate([PIXELS[..., ::-1], np.full((*PIXELS.shape[:2], 1), 255, np.uint8)], axis=2)
    path.write_bytes(cv2.imencode(suffix, alpha)[1].tobytes())
    assert np.array_equal(read_picture(path), PIXELS)


def test_a_palette_picture(tmp_path):
    rows = b"".join(bytes([i, i, 0, 0]) for i in (0, 1))
    header = struct.pack("<2sIII", b"BM", 62 + 8, 0, 62) + struct.pack("<IiiHHIIiiII", 40, 2, 2, 1, 8, 0, 8, 0, 0, 2, 0)
    path = tmp_path / "a.bmp"
    path.write_bytes(header + bytes([10, 20, 30, 0, 40, 50, 60, 0]) + rows)
    assert read_picture(path)[:, 0].tolist() == [[60, 50, 40], [30, 20, 10]]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff"])
@pytest.mark.parametrize("kept", [0.001, 0.02, 0.5, 0.97])
def test_truncated_files_are_refused(tmp_path, suffix, kept):
    noise = np.random.default_rng(1).integers(0, 256, (64, 80, 3)).astype(np.uint8)
    data = _encode(suffix, noise)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(InputError):
        read_picture(path)


def test_a_progressive_picture_with_bytes_after_its_end(tmp_path):
    data = cv2.imencode(".jpg", PIXELS, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 2])[1]
    path = tmp_path / "a.jpg"
    path.write_bytes(data.tobytes() + b"trailer of a phone")
    assert read_picture(path).shape == PIXELS.shape


def test_a_truncated_picture_is_not_saved_by_the_end_of_its_thumbnail(tmp_path):
    data = _encode(".jpg")
    thumbnail = b"Exif\0\0" + _exif(1) + data
    nested = data[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + data[2:]
    path = tmp_path / "a.jpg"
    path.write_bytes(nested)
    assert read_picture(path).shape == PIXELS.shape
    path.write_bytes(nested[:-40])
    with pytest.raises(InputError, match="truncated"):
        read_picture(path)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "the file is empty"),
        (b"hello there, I am a text", "not a picture: expected jpeg"),
        (b"\xff\xd8\xff", "truncated or damaged"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "truncated or damaged"),
        (b"GIF89a" + b"\0" * 40, "not a picture"),
        (b"II*\0\x08\0\0\0\0\0", "truncated or damaged"),
        (b"BM" + struct.pack("<IIIIiiHH", 62, 0, 54, 40, 0, 7, 1, 24) + b"\0" * 24, "0 x 7 pixels"),
    ],
)
def test_what_is_no_picture_says_so(tmp_path, data, says):
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with pytest.raises(InputError, match=says):
        read_picture(path)


def test_missing_files_and_folders_named_like_pictures(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_picture(tmp_path / "missing.jpg")
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        read_picture(tmp_path / "folder.jpg")


def test_huge_sizes_are_refused_before_pixels_are_decoded(tmp_path):
    path = tmp_path / "bomb.png"
    data = bytearray(_encode(".png"))
    data[16:24] = struct.pack(">II", 60000, 50000)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"60000 x 50000 pixels .* --max-pixels"):
        read_picture(path)
    path.write_bytes(_encode(".png"))
    with pytest.raises(InputError, match="80 x 48"):
        read_picture(path, max_pixels=80 * 48 - 1)
    assert read_picture(path, max_pixels=80 * 48).shape == PIXELS.shape


@pytest.fixture
def folder(tmp_path):
    names = [
        "img10.jpg",
        "img2.JPG",
        "b/1.PnG",
        "b/c/2.tif",
        "notes.txt",
        ".hidden.jpg",
        ".git/x.jpg",
        "a.webp",
        "d.gif",
    ]
    for name in names:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "in"


def _names(items):
    return [item.name for item in items]


def test_folders_are_searched_in_natural_order(folder):
    assert _names(list_pictures([folder])) == ["a.webp", "b/1.PnG", "b/c/2.tif", "img2.JPG", "img10.jpg"]
    assert _names(list_pictures([folder], recursive=False)) == ["a.webp", "img2.JPG", "img10.jpg"]


def test_several_inputs_keep_their_order_and_every_file_once(folder):
    items = list_pictures([folder / "img10.jpg", folder / "b", folder])
    assert _names(items) == ["img10.jpg", "1.PnG", "c/2.tif", "a.webp", "img2.JPG"]


def test_globs(folder):
    assert _names(list_pictures([f"{folder}/img*"])) == ["img2.JPG", "img10.jpg"]
    assert _names(list_pictures([f"{folder}/**/*.*"])) == ["a.webp", "b/1.PnG", "b/c/2.tif", "img2.JPG", "img10.jpg"]
    with pytest.raises(InputError, match="the pattern matches no pictures"):
        list_pictures([f"{folder}/*.bmp"])


def test_list_files_keep_every_line_with_its_own_folder(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    lines = ["in/b/1.PnG", str(folder / "a.webp"), "", "# a comment", "img2.JPG", "x/missing.jpg"]
    (tmp_path / "list.TXT").write_text("\n".join(lines))
    items = list_pictures([tmp_path / "list.TXT"])
    # The third line is only found in the working directory, the last one nowhere: it fails when it is read.
    assert _names(items) == ["in/b/1.PnG", "in/a.webp", "in/img2.JPG", "x/missing.jpg"]
    assert [item.path.exists() for item in items] == [True, True, True, False]


def test_nothing_there_is_an_error_that_names_the_input(folder, tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.jpg: expected a picture, folder"):
        list_pictures([folder, tmp_path / "nowhere.jpg"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: found no pictures; expected files ending in \.jpg"):
        list_pictures([tmp_path / "empty"])
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(InputError, match="found no lines"):
        list_pictures([tmp_path / "empty.txt"])


def test_links_that_lead_in_circles_end(folder):
    (folder / "b" / "loop").symlink_to(folder)
    assert len(list_pictures([folder])) == 5


def test_an_empty_folder_named_like_a_picture_is_an_item(folder):
    (folder / "z.jpg").mkdir()
    assert _names(list_pictures([folder]))[-1] == "z.jpg"


def test_list_files_written_elsewhere(folder):
    (folder / "list.txt").write_bytes(b"\xef\xbb\xbfa.webp\r\n\r\n  # indented\r\nimg2.JPG\r\n" + b"x" * 6000 + b".jpg")
    assert _names(list_pictures([folder / "list.txt"]))[:2] == ["a.webp", "img2.JPG"]
    (folder / "list.txt").write_text("a.webp", encoding="utf-16-le")
    with pytest.raises(InputError, match="found bytes that are no text"):
        list_pictures([folder / "list.txt"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="found a pipe"):
        read_picture(tmp_path / "a.jpg")
