"""Pictures with one class each, from folders and from lists."""

from pathlib import Path

import pytest

from lite.datasets.image_folders import known_classes, read_image_folders
from lite.errors import AnnotationError
from lite.label_sets import list_label_sets
from lite.label_sets.imagenet import imagenet_classes, imagenet_names


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Pictures are only listed here, so their content does not matter."""
    for name in (
        "n01440764/b.JPEG",
        "n01440764/a.jpg",
        "n01440764/notes.txt",
        "Sea_Lion/deep/c.png",
        "Sea_Lion/.x.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".hidden").mkdir()
    return tmp_path


def pairs(found) -> list[tuple[str, int]]:
    return [(one.name, one.label) for one in found]


def test_class_folders_by_id_and_by_name(root):
    found = read_image_folders(root, imagenet_names())
    assert pairs(found) == [("Sea_Lion/deep/c.png", 150), ("n01440764/a.jpg", 0), ("n01440764/b.JPEG", 0)]
    assert all(one.path.is_file() for one in found)


def test_without_names_the_sorted_folders_are_the_classes(root):
    assert [label for _, label in pairs(read_image_folders(root))] == [0, 1, 1]


def test_a_folder_of_no_class_is_named(root):
    with pytest.raises(AnnotationError, match=r"a folder named after a class of the network \(cat, dog, \.\.\.\)"):
        read_image_folders(root, ("cat", "dog"))


def test_lists_with_numbers_names_and_ids(root):
    listed = root / "val.txt"
    listed.write_text("n01440764/a.jpg 7\n\nn01440764/b.JPEG n02077923\nSea_Lion/deep/c.png sea lion\n")
    assert pairs(read_image_folders(root, imagenet_names(), listed)) == [
        ("n01440764/a.jpg", 7),
        ("n01440764/b.JPEG", 150),
        ("Sea_Lion/deep/c.png", 150),
    ]
    (root / "my picture.jpg").touch()
    listed.write_text("my picture.jpg 3")
    assert pairs(read_image_folders(root, (), listed)) == [("my picture.jpg", 3)]


def test_the_list_of_imagenet_leaves_endings_and_boxes_aside(root):
    (root / "LOC.csv").write_text("ImageId,PredictionString\nn01440764/b,n01440764 85 1 499 272 n01440764 1 2 3 4 \n")
    assert pairs(read_image_folders(root, imagenet_names(), root / "LOC.csv")) == [("n01440764/b", 0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n01440764/a.jpg 1000", "line 1: expected a class below 1000, found 1000"),
        ("n01440764/a.jpg unicorn", "line 1: expected a class of the network"),
        ("n01440764/a.jpg 1\nx.jpg 1", r"line 2: expected the picture .*x\.jpg, found none"),
        ("n01440764/a.jpg", "line 1: expected a picture and its class, found 'n01440764/a.jpg'"),
        ("\n \n", "listed, found none"),
    ],
)
def test_what_is_wrong_in_a_list_is_said(root, text, message):
    (root / "val.txt").write_text(text)
    with pytest.raises(AnnotationError, match=message):
        read_image_folders(root, imagenet_names(), root / "val.txt")


def test_missing_files_and_empty_folders(root, tmp_path):
    with pytest.raises(AnnotationError, match="expected a folder of labelled pictures"):
        read_image_folders(root / "nowhere")
    with pytest.raises(AnnotationError, match="No such file"):
        read_image_folders(root, (), root / "nowhere.txt")
    (root / "binary.txt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(AnnotationError, match="no UTF-8 text"):
        read_image_folders(root, (), root / "binary.txt")
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    with pytest.raises(AnnotationError, match="in class folders or listed, found none"):
        read_image_folders(tmp_path / "empty")


def test_imagenet_has_a_thousand_classes_that_differ():
    classes = imagenet_classes()
    assert len(classes) == len(set(imagenet_names())) == 1000
    assert list(classes) == sorted(classes)
    assert all(name.isprintable() and name.strip() == name for name in classes.values())
    assert "imagenet1000" not in list_label_sets()  # far more than a label map can hold


def test_ids_are_known_for_imagenet_alone():
    assert known_classes(imagenet_names())["n07747607"] == 950
    assert "n07747607" not in known_classes(imagenet_names()[:999])


def test_published_samples(shared):
    """One picture of every fiftieth class, named after it."""
    found = read_image_folders(shared / "data" / "classification" / "imagenet_samples", imagenet_names())
    assert [one.label for one in found] == list(range(0, 1000, 50))
    names = [one.path.stem.split("_", 1)[1].replace("_", " ") for one in found]
    assert names == [imagenet_names()[one.label] for one in found]
