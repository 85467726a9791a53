"""Annotation files: what is read, what is refused, and which people the original training loader keeps."""

import json

import numpy as np
import pytest

from lite.datasets import labelled_people, read_coco
from lite.errors import AnnotationError

IMAGE = {"id": 7, "file_name": "a.jpg", "width": 60, "height": 40}
PERSON = {"id": 1, "image_id": 7, "bbox": [5, 6, 20, 30], "keypoints": [10, 12, 2] * 17, "num_keypoints": 17}


def written(tmp_path, images, annotations):
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def test_nobody(tmp_path):
    found = read_coco(written(tmp_path, [IMAGE], []))
    assert (len(found.images), found.people, labelled_people(found)) == (1, [], [])
    assert found.people_of() == {7: []}
    assert read_coco(written(tmp_path, [], [])).images == []


def test_one_person(tmp_path):
    found = read_coco(written(tmp_path, [{**IMAGE, "boxes_complete": False}], [{**PERSON, "area": 123.0}]))
    (person,) = found.people
    assert found.images[0].size_hw == (40, 60)
    assert not found.images[0].boxes_complete
    assert person.box.tolist() == [5, 6, 25, 36]
    assert person.keypoints.shape == (17, 3)
    assert (person.area, person.num_keypoints, person.is_crowd) == (123.0, 17, False)


def test_many_stand_in_the_order_of_their_pictures(tmp_path):
    images = [{**IMAGE, "id": i} for i in (9, 7)]
    people = [{**PERSON, "id": i, "image_id": image} for i, image in ((1, 7), (2, 9), (3, 7))]
    found = read_coco(written(tmp_path, images, people))
    assert [p.annotation_id for p in found.people] == [2, 1, 3]
    assert [len(people) for people in found.people_of().values()] == [1, 2]


def test_boxes_alone_and_who_is_left_out(tmp_path):
    people = [
        {"id": 1, "image_id": 7, "bbox": [5, 6, 20, 30]},
        {**PERSON, "id": 2, "iscrowd": 1},
        {**PERSON, "id": 3, "bbox": [-10, -10, 200, 30]},
        {**PERSON, "id": 4, "bbox": [70, 5, 20, 20]},
        {**PERSON, "id": 5, "keypoints": [0, 0, 0] * 17, "num_keypoints": 0},
    ]
    found = read_coco(written(tmp_path, [IMAGE], people))
    assert found.people[0].area == 600 and not found.people[0].keypoints.any()
    (kept,) = labelled_people(found)
    assert kept.annotation_id == 3
    assert kept.box.tolist() == [0, 0, 59, 20]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 8}, "image_id of one of `images`, found 8"),
        ({"bbox": [1, 2, 3]}, "`bbox` needs 4 finite numbers, found 3"),
        ({"bbox": [1, 2, 3, float("nan")]}, "`bbox` needs 4 finite numbers"),
        ({"bbox": None}, "`bbox` needs 4 finite numbers, found None"),
        ({"keypoints": [1, 2, 2] * 16}, "`keypoints` needs 51 finite numbers, found 48"),
    ],
)
def test_a_broken_person_is_named(tmp_path, change, message):
    with pytest.raises(AnnotationError, match=message) as problem:
        read_coco(written(tmp_path, [IMAGE], [PERSON, {**PERSON, **change}]))
    assert "annotations[1]" in str(problem.value)


def test_broken_files_are_refused(tmp_path):
    with pytest.raises(AnnotationError, match="cannot read"):
        read_coco(tmp_path / "nowhere.json")
    path = tmp_path / "x.json"
    for text, message in (("{", "no JSON"), ("[1]", "found list"), ('{"images": 3, "annotations": []}', "lists")):
        path.write_text(text)
        with pytest.raises(AnnotationError, match=message):
            read_coco(path)
    with pytest.raises(AnnotationError, match=r"images\[0\] needs id, file_name"):
        read_coco(written(tmp_path, [{"id": 1}], []))
    with pytest.raises(AnnotationError, match="stand twice"):
        read_coco(written(tmp_path, [IMAGE, IMAGE], []))


def test_keeps_the_people_of_the_original_loader(golden):
    """tests/golden/sapiens/coco_records.json: the records of the Sapiens training loader on the same annotations."""
    expected = json.loads((golden / "sapiens" / "coco_records.json").read_text())
    kept = labelled_people(read_coco(golden / "sapiens" / "eval_coco_annotations.json"))
    assert [p.annotation_id for p in kept] == [record["id"] for record in expected]
    assert [int((p.keypoints[:, 2] > 0).sum()) for p in kept] == [record["num_visible"] for record in expected]
    np.testing.assert_allclose([p.box for p in kept], [record["bbox_xyxy"] for record in expected], atol=1e-4)


def test_keeps_the_whole_bodies_of_the_original_loader(shared):
    folder = shared / "reference" / "sapiens" / "golden"
    expected = json.loads((folder / "dataset_records.json").read_text())["wholebody"]
    kept = labelled_people(read_coco(folder / "coco" / "test_coco_wholebody.json", "wholebody133"))
    assert [p.annotation_id for p in kept] == [record["id"] for record in expected]
    assert [int((p.keypoints[:, 2] > 0).sum()) for p in kept] == [record["num_visible"] for record in expected]
    np.testing.assert_allclose([p.box for p in kept], [record["bbox_xyxy"] for record in expected], atol=1e-4)
