"""Label maps on disk: complete, read back the same, refused with the name of the file."""

from pathlib import Path

import numpy as np
import pytest

from lite.errors import ConfigError, InputError
from lite.label_sets import load_label_set
from lite.writers.label_maps import load_label_map, write_label_map

PALETTE = load_label_set("lip20").palette


def test_written_and_read_back(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 20, (31, 17)).astype(np.uint8)
    path = tmp_path / "deep" / "x.png"
    write_label_map(path, labels, PALETTE)
    np.testing.assert_array_equal(load_label_map(path), labels)
    assert [found.name for found in path.parent.iterdir()] == ["x.png"]


def test_errors_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"x\.png: expected a PNG"):
        load_label_map(tmp_path / "x.png")
    with pytest.raises(InputError, match=r"y\.png: cannot be read: No such file"):
        load_label_map(tmp_path / "y.png")
    with pytest.raises(InputError, match="cannot be read"):
        load_label_map(tmp_path)
    with pytest.raises(ConfigError, match="cannot be written"):
        write_label_map(tmp_path / "x.png" / "y.png", np.zeros((2, 2), np.uint8), PALETTE)
