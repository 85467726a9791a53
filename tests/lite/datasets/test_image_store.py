"""Pictures come back the same from a folder, a tar file, and another process."""

import pickle
import struct
import tarfile
import zlib

import cv2
import numpy as np
import pytest

from lite.datasets import ImageStore
from lite.errors import InputError

NAMES = ["a.png", "sub/b.PNG"]


@pytest.fixture
def stores(tmp_path):
    """The same two pictures as folder and tar file; their pixels by name."""
    rng = np.random.default_rng(0)
    pixels = {name: rng.integers(0, 256, (6, 8, 3), np.uint8) for name in NAMES}
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    for name, rgb in pixels.items():
        (folder / name).write_bytes(cv2.imencode(".png", rgb[..., ::-1])[1].tobytes())
    (folder / "notes.txt").write_text("no picture")
    with tarfile.open(tmp_path / "pictures.tar", "w") as tar:
        for name in [*NAMES, "notes.txt"]:
            tar.add(folder / name, f"./{name}" if name == "a.png" else name)
    return [ImageStore(folder), ImageStore(tmp_path / "pictures.tar")], pixels


def test_folder_and_tar_give_the_same_pixels(stores):
    for store in stores[0]:
        assert store.names() == NAMES
        for name in NAMES:
            assert np.array_equal(store.read(name), stores[1][name])


def test_travels_to_a_worker_after_use(stores):
    for store in stores[0]:
        store.read("a.png")
        twin = pickle.loads(pickle.dumps(store))
        assert np.array_equal(twin.read("a.png"), stores[1]["a.png"])
        twin.close()
        assert np.array_equal(twin.read("a.png"), stores[1]["a.png"])  # opens again


def test_wrong_stores_and_names_are_named(stores, tmp_path):
    for store in stores[0]:
        with pytest.raises(InputError, match=r"missing\.png"):
            store.read("missing.png")
        with pytest.raises(InputError, match=r"notes\.txt is no readable picture"):
            store.read("notes.txt")
    with pytest.raises(InputError, match="nothing there"):
        ImageStore(tmp_path / "nowhere")
    (tmp_path / "not.tar").write_bytes(b"x" * 2000)
    with pytest.raises(InputError, match="uncompressed tar"):
        ImageStore(tmp_path / "not.tar")


def test_sizes_and_names_that_cannot_be_are_refused(tmp_path):
    header = struct.pack(">II5B", 60000, 60000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(9))), (b"IEND", b""))
    body = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))
    for name in ("huge.png", "a\0b.png"):
        with pytest.raises(InputError, match="picture"):
            ImageStore(tmp_path).read(name)
