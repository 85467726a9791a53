"""Every label set equals the published one, a file of one's own is read or refused in one sentence, torch stays out."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from lite.errors import ConfigError
from lite.label_sets import (
    generated_palette,
    generic_label_set,
    list_label_sets,
    load_label_set,
    mirrored_pairs,
    swapped_order,
)

COUNTS = {"goliath28": 28, "face19": 19, "lip20": 20, "cihp20": 20}


@pytest.mark.parametrize("name", COUNTS)
def test_a_set_is_consistent(name: str) -> None:
    labels = load_label_set(name)
    assert labels.name == name and len(labels) == COUNTS[name] == len(labels.palette)
    assert labels.names[0] == "Background" and load_label_set(name) is labels
    assert {tuple(sorted(pair)) for pair in labels.swaps} == set(mirrored_pairs(labels.names))


def test_all_files_are_listed() -> None:
    assert set(list_label_sets()) == set(COUNTS)


def test_some_constants() -> None:
    labels = load_label_set("goliath28")
    assert labels.names[2] == "Face_Neck" and labels.palette[2] == (128, 200, 255) and labels.swaps[0] == (4, 13)
    assert load_label_set("lip20").names[14:16] == ("Left-arm", "Right-arm")
    assert load_label_set("face19").palette[18] == (75, 0, 130)


@pytest.mark.parametrize("name", COUNTS)
def test_sets_equal_the_reference(name: str, shared: Path) -> None:
    expected = json.loads((shared / "reference/sapiens/segmentation.json").read_text())[name]
    labels = load_label_set(name)
    assert list(labels.names) == expected["classes"]
    assert [list(color) for color in labels.palette] == expected["palette_rgb"]
    assert [list(pair) for pair in labels.swaps] == expected["swap_seg_labels"]


def test_files_of_ones_own(tmp_path: Path) -> None:
    toml, json_file = tmp_path / "mine.toml", tmp_path / "also.json"
    toml.write_text('names = ["none", "left glove", "hat", "right glove"]\n')
    json_file.write_text('{"names": ["no", "yes"], "palette": ["#000000", [1, 2, 255]], "swaps": []}')
    made, read = load_label_set(toml), load_label_set(str(json_file))
    assert made.name == "mine" and made.swaps == ((1, 3),) and len(set(made.palette)) == 4
    assert read.palette == ((0, 0, 0), (1, 2, 255)) and read.swaps == ()
    toml.write_text('names = ["left", "right"]\nswaps = []\n')
    assert load_label_set(toml).swaps == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "expected the keys names"),
        ('{"classes": ["a", "b"]}', "found classes"),
        ('{"names": ["a", "b"], "colour": []}', "expected the keys"),
        ('{"names": "ab"}', "names: expected a list"),
        ('{"names": ["a"]}', "2 to 255 class names, found 1"),
        ('{"names": ["a", "a"]}', "found a name twice"),
        ('{"names": ["a", ""]}', "found ''"),
        ('{"names": ["a", 3]}', "found 3"),
        ('{"names": ["a", "b"], "palette": [[0, 0, 0]]}', "palette: expected 2 colours"),
        ('{"names": ["a", "b"], "palette": [[0, 0, 0], [0, 0, 256]]}', "palette: expected colours as"),
        ('{"names": ["a", "b"], "palette": ["red", "#000000"]}', "found 'red'"),
        ('{"names": ["a", "b"], "swaps": [[0, 2]]}', "swaps: expected pairs of labels below 2"),
        ('{"names": ["a", "b"], "swaps": [[0, 0]]}', "each label once"),
        ('{"names": ["a", "b"], "swaps": [1, 0]}', "swaps"),
        ('{"names": ["a", "b"], "swaps": 7}', "swaps"),
        ("not json", "cannot be read as JSON"),
    ],
)
def test_wrong_files_are_refused_in_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_label_set(path)
    assert said in str(caught.value) and "wrong.json" in str(caught.value) and "\n" not in str(caught.value)


def test_missing_sets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cihp20.*or a .toml or .json file, found 'goliath29'"):
        load_label_set("goliath29")
    with pytest.raises(ConfigError, match="found none"):
        load_label_set(tmp_path / "nothing.toml")


def test_generic_and_generated() -> None:
    labels = generic_label_set(5)
    assert labels.names == ("background", "class_1", "class_2", "class_3", "class_4") and labels.swaps == ()
    assert generic_label_set(1).names == ("background", "class_1")  # one channel: is it there or not
    palette = generated_palette(255)
    assert palette[0] == (0, 0, 0) and all(a != b for a, b in pairwise(palette))
    assert len(set(palette)) > 200


def test_swapped_order() -> None:
    assert swapped_order(5, [(1, 3)]) == (0, 3, 2, 1, 4)
    assert swapped_order(2, []) == (0, 1)


def test_loading_needs_no_torch() -> None:
    code = "import sys; from lite.label_sets import load_label_set as l; l('lip20'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
