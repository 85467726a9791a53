"""Annotation and result files: complete ones, incomplete ones, broken ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lite.errors import AnnotationError
from lite.evaluate.coco_files import read_truth
from lite.evaluate.result_files import read_boxes, read_entries, server_entries


def annotation(**changes: Any) -> dict:
    whole = {"id": 7, "image_id": 3, "category_id": 1, "bbox": [1, 2, 10, 20], "area": 99.0, "iscrowd": 0}
    whole |= {"keypoints": [5, 6, 2] * 17, "num_keypoints": 17} | changes
    return {key: value for key, value in whole.items() if value is not None}


def content(*annotations: Any, **changes: Any) -> dict:
    images = [{"id": 3, "file_name": "a.jpg", "width": 50, "height": 40}]
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}]
    return {"images": images, "categories": categories, "annotations": list(annotations)} | changes


def write(folder: Path, value: Any) -> Path:
    path = folder / "file.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_read_truth_keeps_what_is_given(tmp_path: Path) -> None:
    truth = read_truth(write(tmp_path, content(annotation(), annotation(id=8, category_id=2, keypoints=None))), 17)
    assert (truth.category_id, truth.image_ids) == (1, {3})
    (person,) = truth.people
    assert person == annotation(id=1, area_is_estimate=False)


def test_read_truth_of_nobody(tmp_path: Path) -> None:
    assert read_truth(write(tmp_path, content()), 17).people == []


def test_read_truth_completes(tmp_path: Path) -> None:
    keypoints = [0.0] * 48 + [30, 40, 1]
    bare = annotation(area=None, iscrowd=None, num_keypoints=None, keypoints=keypoints)
    boxless = annotation(id=0, bbox=None, keypoints=[4, 5, 2, 8, 15, 1] + [0] * 45, area=None)
    unlabelled = annotation(id=9, keypoints=None, num_keypoints=None, area_is_estimate=True)
    first, second, third = read_truth(write(tmp_path, content(bare, boxless, unlabelled)), 17).people
    assert (first["area"], first["iscrowd"], first["num_keypoints"]) == (pytest.approx(0.53 * 200), 0, 1)
    assert (second["bbox"], second["id"]) == ([4, 5, 4, 10], 2)
    assert (third["num_keypoints"], third["keypoints"]) == (0, [0.0] * 51)
    assert all(person["area_is_estimate"] for person in (first, second, third))


def test_only(tmp_path: Path) -> None:
    truth = read_truth(write(tmp_path, content(annotation())), 17)
    assert (truth.only({3}).people, truth.only(set()).people, truth.only(set()).images) == (truth.people, [], [])


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("{", "expected a JSON file"),
        ([], "a COCO annotation file"),
        ({"images": []}, "a COCO annotation file"),
        (content(images=[{"id": "3", "file_name": "a.jpg"}]), "integer id"),
        (content(images=[{"id": 3, "file_name": "a"}, {"id": 3, "file_name": "b"}]), "3 twice"),
        (content(categories=[{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]), "found cat, dog"),
        (content(categories=7), "list of objects"),
        (content(annotation(), annotation()), "annotation 7: expected each id once"),
        (content(5), "to be an object"),
        (content(annotation(image_id=4)), "found 4"),
        (content(annotation(keypoints=[1, 2, 2] * 16)), "found 48 values"),
        (content(annotation(keypoints=[float("nan"), 2, 2] * 17)), "finite triples"),
        (content(annotation(bbox=[1, 2, 3])), "expected bbox"),
        (content(annotation(bbox=None, keypoints=None, num_keypoints=None)), "expected bbox"),
        (content(annotation(area="big")), "finite area"),
    ],
)
def test_broken_truth(tmp_path: Path, broken: Any, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        read_truth(write(tmp_path, broken), 17)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="found none"):
        read_truth(tmp_path / "absent.json", 17)


def entry(**changes: Any) -> dict:
    return {"image_id": 3, "category_id": 1, "keypoints": [5.0, 6.0, 0.5] * 17, "score": 0.5} | changes


def test_read_entries(tmp_path: Path) -> None:
    truth = read_truth(write(tmp_path, content(annotation())), 17)
    assert read_entries(write(tmp_path, []), truth) == []
    found = read_entries(write(tmp_path, [entry(), entry(category_id=2)]), truth)
    assert found == [entry()]
    assert server_entries(found) == found


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({}, "a list of people"),
        ([5], "entry 0: expected an object"),
        ([entry(), entry(image_id=9)], "entry 1: .* found 9"),
        ([entry(score=None)], "finite score"),
        ([entry(score=float("inf"))], "finite score"),
        ([entry(keypoints=[1.0])], "found 1 values"),
        ([{"image_id": 3, "score": 1.0}], "found None"),
    ],
)
def test_broken_entries(tmp_path: Path, broken: Any, message: str) -> None:
    truth = read_truth(write(tmp_path, content(annotation())), 17)
    with pytest.raises(AnnotationError, match=message):
        read_entries(write(tmp_path, broken), truth)


def test_wholebody_round_trip(tmp_path: Path) -> None:
    flat = np.arange(399, dtype=float).tolist()
    spread = server_entries([entry(keypoints=flat)])
    assert {name: len(v) for name, v in spread[0].items() if isinstance(v, list)} == {
        "keypoints": 51,
        "foot_kpts": 18,
        "face_kpts": 204,
        "lefthand_kpts": 63,
        "righthand_kpts": 63,
    }
    truth = read_truth(write(tmp_path, content(annotation())), 133)
    assert read_entries(write(tmp_path, spread), truth) == [entry(keypoints=flat)]
    assert truth.people[0]["num_keypoints"] == 17


def test_read_boxes(tmp_path: Path) -> None:
    rows = [
        {"image_id": 3, "category_id": 1, "bbox": [1, 2, 10, 20], "score": 0.9},
        {"image_id": 3, "category_id": 2, "bbox": [0, 0, 1, 1], "score": 0.9},
        {"image_id": 4, "bbox": [0, 0, 1, 1], "score": 0.01},
        {"image_id": 3, "category_id": 1, "bbox": [5, 5, 5, 5], "score": 0.95},
    ]
    found = read_boxes(write(tmp_path, rows))
    assert list(found) == [3, 4]
    boxes, scores = found[3]
    assert (boxes.dtype, scores.dtype) == (np.float32, np.float32)
    assert boxes.tolist() == [[1, 2, 11, 22], [5, 5, 10, 10]]
    np.testing.assert_allclose(scores, [0.9, 0.95], atol=1e-6)
    assert read_boxes(write(tmp_path, [])) == {}


@pytest.mark.parametrize(
    "broken",
    [
        {},
        [3],
        [{"image_id": 3, "bbox": [1, 2, 3], "score": 1}],
        [{"image_id": 3, "bbox": [1, 2, 3, 4]}],
        [{"image_id": 3, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 1}],  # of nobody
    ],
)
def test_broken_boxes(tmp_path: Path, broken: Any) -> None:
    with pytest.raises(AnnotationError, match="expected"):
        read_boxes(write(tmp_path, broken))
