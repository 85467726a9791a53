"""JSON results: strict, a superset of the field's layout, whole or not there, and read back as arrays."""

import json
import os

import numpy as np
import pytest

import lite
from lite.artifact import ArtifactSpec
from lite.errors import AnnotationError, ConfigError
from lite.skeletons import load_skeleton
from lite.structures import Record
from lite.writers import RecordWriter, load_results
from lite.writers.label_maps import write_label_map
from lite.writers.records import write_run

SKELETON = load_skeleton("coco17")


def _record(num_people, source='photos/größe "1".jpg', **fields):
    people = [
        {
            "keypoints": [[n + k, n - k / 8] for k in range(17)],
            "keypoint_scores": [k / 17 for k in range(17)],
            "bbox": [[n, 1.5, n + 10, 20]],
            "bbox_score": 0.5,
        }
        for n in range(num_people)
    ]
    return Record(source=source, size_hw=(30, 40), people=people, **fields)


def _write(path, record):
    RecordWriter(SKELETON, {"pose": {"model": "tiny"}, "detector": None}).write(path, record)
    return path


@pytest.mark.parametrize("num_people", [0, 1, 30])
def test_round_trip(tmp_path, num_people):
    record = _record(num_people)
    (results,) = load_results(_write(tmp_path / "deep" / "a.json", record))
    assert results.source == record.source and results.size_hw == (30, 40) and results.error is None
    assert results.keypoints.shape == (num_people, 17, 2) and results.keypoints.dtype == np.float32
    assert results.boxes.shape == (num_people, 4) and results.scores.shape == (num_people,)
    assert results.keypoint_names == SKELETON.keypoint_names
    for n, person in enumerate(record.people):
        assert np.allclose(results.keypoints[n], person["keypoints"])
        assert np.allclose(results.keypoint_scores[n], person["keypoint_scores"])
        assert np.allclose(results.boxes[n], person["bbox"][0]) and results.scores[n] == person["bbox_score"]


def test_the_layout_others_read(tmp_path):
    text = _write(tmp_path / "a.json", _record(2)).read_text(encoding="utf-8")
    value = json.loads(text, parse_constant=pytest.fail)
    assert set(value) == {
        "schema",
        "source",
        "index",
        "time_s",
        "image_size",
        "error",
        "instance_info",
        "model",
        "meta_info",
    }
    assert set(value["instance_info"][0]) == {"keypoints", "keypoint_scores", "bbox", "bbox_score"}
    assert value["image_size"] == {"width": 40, "height": 30}
    meta = value["meta_info"]
    assert meta["keypoint_id2name"]["0"] == "nose" and meta["keypoint_name2id"]["right_ankle"] == 16
    assert meta["num_keypoints"] == 17 and [15, 13] in meta["skeleton_links"]


def test_values_that_are_not_json_are_never_written(tmp_path):
    record = _record(1)
    record.people[0]["bbox_score"] = float("nan")
    with pytest.raises(ValueError, match="not JSON compliant"):
        _write(tmp_path / "a.json", record)
    assert list(tmp_path.iterdir()) == []


def test_an_error_is_kept(tmp_path):
    record = Record(source="a.jpg", error="the file is empty")
    (results,) = load_results(_write(tmp_path / "a.json", record))
    assert results.error == "the file is empty" and results.size_hw is None
    assert results.keypoints.shape == (0, 17, 2)


def test_a_folder_is_read_in_natural_order_without_the_run_file(tmp_path):
    for name in ("10", "9", "b/1"):
        _write(tmp_path / f"{name}.json", _record(1, source=name))
    write_run(tmp_path / "run.json", {"config": {}})
    assert [results.source for results in lite.load_results(tmp_path)] == ["9", "10", "b/1"]


def test_the_plain_form_of_others(tmp_path):
    people = [{"keypoints": [[1, 2], [3, 4]], "keypoint_scores": [0.5, 0.25]}]
    (tmp_path / "a.json").write_text(json.dumps({"instance_info": people}, indent="\t"))
    (results,) = load_results(tmp_path / "a.json")
    assert results.keypoints.tolist() == [[[1, 2], [3, 4]]] and results.source == "a.json"
    assert np.isnan(results.boxes).all() and np.isnan(results.scores).all()
    (tmp_path / "a.json").write_text('{"instance_info": []}')
    assert load_results(tmp_path / "a.json")[0].keypoints.shape == (0, 0, 2)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"instance_info": 3}',
        '{"instance_info": [{"keypoints": [[1, 2]]}]}',
        '{"instance_info": [{"keypoints": [[1, 2]], "keypoint_scores": [1, 2]}]}',
        '{"instance_info": [7]}',
        '{"instance_info": [{"bbox": [[1, 2, 3, 4]]}, {"keypoints": [[1, 2]], "keypoint_scores": [1]}]}',
        '{"instance_info": [], "areas": 3}',
        '{"instance_info": [], "classes": [3]}',
        '{"instance_info": [], "classes": 3}',
        '{"instance_info": [{"bbox": [[1, 2, 3, 4]], "areas": [3]}]}',
    ],
)
def test_other_files_are_refused_in_one_sentence(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(AnnotationError, match=r"a\.json: expected"):
        load_results(tmp_path / "a.json")


LABELS = ArtifactSpec(
    task="segment",
    model="x",
    input_hw=(8, 8),
    mean=(0, 0, 0),
    std=(1, 1, 1),
    labels=("background", "hair"),
    palette=((0, 0, 0), (9, 8, 7)),
)


@pytest.mark.parametrize("num_people", [0, 1, 3])
def test_labels_and_classes_come_back_without_keypoints(tmp_path, num_people):
    people = [{"bbox": [[n, 1, 9, 9]], "bbox_score": 0.5, "areas": {"hair": n + 1}} for n in range(num_people)]
    classes = [{"label": 7, "name": "cock", "score": 0.75}, {"label": 8, "name": "hen", "score": 0.25}]
    record = Record(source="a", size_hw=(30, 40), people=people, areas={"background": 1200}, classes=classes)
    path = tmp_path / "a.jpg.json"
    RecordWriter(None, {"segmentation": {}}, LABELS).write(path, record)
    (results,) = lite.load_results(path)
    assert results.keypoints.shape == (num_people, 0, 2) and results.keypoint_scores.shape == (num_people, 0)
    assert results.boxes[:, 0].tolist() == list(range(num_people)) and results.keypoint_names == ()
    assert results.areas == {"background": 1200} and results.label_names == ("background", "hair")
    assert results.person_areas == tuple({"hair": n + 1} for n in range(num_people))
    assert results.classes == tuple(classes) and results.label_map is None
    write_label_map(tmp_path / "a.jpg.labels.png", np.eye(4, dtype=np.uint8), LABELS.palette)
    label_map = lite.load_results(path)[0].label_map
    assert (lite.load_label_map(label_map) == np.eye(4)).all()


def test_a_label_map_of_an_earlier_run_does_not_count(tmp_path):
    write_label_map(tmp_path / "a.labels.png", np.eye(4, dtype=np.uint8), LABELS.palette)
    (results,) = load_results(_write(tmp_path / "a.json", _record(1)))
    assert results.label_map is results.areas is results.classes is None and results.person_areas == ({},)


def test_nothing_to_load(tmp_path):
    with pytest.raises(AnnotationError, match="found none"):
        load_results(tmp_path)
    with pytest.raises(AnnotationError, match="found nothing there"):
        load_results(tmp_path / "missing")


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"output: .* cannot be written"):
        _write(tmp_path / "file" / "a.json", _record(1))


def test_a_file_name_that_is_no_text_comes_back(tmp_path):
    name = os.fsdecode(b"bad\xff.jpg")
    path = _write(tmp_path / "a.json", _record(1, source=name))
    assert lite.load_results(path)[0].source == name
    write_run(tmp_path / "run.json", {"failed": [name]})
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["failed"] == [name]
