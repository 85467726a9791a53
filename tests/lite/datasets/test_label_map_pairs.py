"""Pictures find their label maps in every layout; what is missing is said."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from lite.datasets.label_map_pairs import GOLIATH34_TO_28, LAYOUTS, read_pairs
from lite.errors import AnnotationError
from lite.label_png import encode_labels
from lite.label_sets import load_label_set

# Layout -> (picture, its label map, something that is neither)
PLACES = {
    "folders": ("images/{}.jpg", "labels/{}.png", "images/notes.txt"),
    "lip": ("images/val_images/{}.jpg", "segmentations/val_segmentations/{}.png", "images/train_images/9.jpg"),
    "cihp": ("Validation/Images/{}.jpg", "Validation/Category_ids/{}.png", "Training/Images/9.jpg"),
    "face-synthetics": ("{}.png", "{}_seg.png", "0_ldmks.txt"),
}
LABELS = np.array([[0, 1, 2], [3, 255, 0]], np.uint8)


def put(path: Path, data: bytes = b"") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def make(root: Path, kind: str, names: tuple[str, ...]) -> None:
    image, labels, other = PLACES[kind]
    put(root / other)
    for name in names:
        put(root / image.format(name))
        put(root / labels.format(name), encode_labels(LABELS, ((0, 0, 0), (9, 9, 9))))


@pytest.mark.parametrize("kind", LAYOUTS)
@pytest.mark.parametrize("names", [("0",), ("b", "a", "sub/c")])
def test_layouts(tmp_path: Path, kind: str, names: tuple[str, ...]) -> None:
    make(tmp_path, kind, names)
    pairs = read_pairs(tmp_path, kind)
    assert [Path(pair.name).with_suffix("").as_posix() for pair in pairs] == sorted(names)
    for pair in pairs:
        np.testing.assert_array_equal(pair.read_labels(), LABELS)
        assert pair.image.is_file()


@pytest.mark.parametrize("kind", LAYOUTS)
def test_nothing_there(tmp_path: Path, kind: str) -> None:
    make(tmp_path, kind, ())
    with pytest.raises(AnnotationError, match="found none"):
        read_pairs(tmp_path, kind)


def test_other_parts_and_folders(tmp_path: Path) -> None:
    put(tmp_path / "Training/Images/1.JPG")
    put(tmp_path / "Training/Category_ids/1.png")
    assert len(read_pairs(tmp_path, "cihp", part="train")) == 1
    put(tmp_path / "photos/x.jpg")
    put(tmp_path / "masks/x_mask.png")
    assert len(read_pairs(tmp_path, images="photos", labels="masks", ending="_mask.png")) == 1


def test_a_missing_map_is_named(tmp_path: Path) -> None:
    make(tmp_path, "folders", ("a", "b"))
    put(tmp_path / "images/c.png")
    with pytest.raises(AnnotationError, match=r"c\.png: expected its label map .*labels.c\.png, found none;"):
        read_pairs(tmp_path)
    with pytest.raises(AnnotationError, match="layout of folders, lip"):
        read_pairs(tmp_path, "ade")


def test_other_numbers(tmp_path: Path) -> None:
    make(tmp_path, "folders", ("a",))
    (pair,) = read_pairs(tmp_path)
    assert pair.read_labels([0, 255, 1]).tolist() == [[0, 255, 1], [255, 255, 0]]
    put(pair.labels, b"nothing")
    with pytest.raises(AnnotationError, match=r"a\.png: expected a PNG"):
        pair.read_labels()


def test_goliath_table(shared: Path) -> None:
    facts = json.loads((shared / "reference/sapiens/segmentation.json").read_text())["goliath28"]
    assert list(GOLIATH34_TO_28) == facts["source_index_to_target"]
    for number, name in zip(GOLIATH34_TO_28, facts["source_classes34"], strict=True):
        assert number == 255 or load_label_set("goliath28").names[number] == name


@pytest.mark.parametrize(
    ("folder", "count", "names", "most"),
    [
        ("cihp", 5, {}, 19),
        ("coco_semantic", 8, {"labels": "masks"}, 255),
        ("penn_fudan", 6, {"labels": "masks", "ending": "_mask.png"}, 10),
    ],
)
def test_samples(shared: Path, folder: str, count: int, names: dict[str, str], most: int) -> None:
    root = shared / "data" / "segmentation" / folder
    if not root.is_dir():
        pytest.skip("needs the segmentation samples")
    pairs = read_pairs(root, **names)
    assert len(pairs) == count
    for pair in pairs:
        labels = pair.read_labels()
        assert cv2.imread(str(pair.image)).shape[:2] == labels.shape
        assert 0 < labels.max() <= most
    if folder == "cihp":
        assert len(load_label_set("cihp20")) > max(pair.read_labels().max() for pair in pairs)
