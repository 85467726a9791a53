"""Annotation, result and detection files with absurd values: a sentence or numbers that can be reckoned with."""

import contextlib
import copy
import json
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lite.datasets.coco import labelled_people, read_coco
from lite.datasets.image_folders import read_image_folders
from lite.datasets.image_store import ImageStore
from lite.engine.results_folder import read_predictions
from lite.errors import AnnotationError, InputError
from lite.evaluate.boxes import truth_boxes
from lite.evaluate.coco_files import read_truth
from lite.evaluate.data_sets import open_truth
from lite.evaluate.json_values import read_json
from lite.evaluate.keypoint_ap import keypoint_ap
from lite.evaluate.result_files import read_boxes, read_entries
from lite.evaluate.worst import oks_scores

SIGMAS = [0.05] * 17
TRIPLES = [10.0, 20.0, 2.0] * 17
PERSON = {
    "id": 1,
    "image_id": 7,
    "category_id": 1,
    "bbox": [1.0, 2.0, 30.0, 40.0],
    "area": 500.0,
    "iscrowd": 0,
    "num_keypoints": 17,
    "keypoints": TRIPLES,
}
TRUTH = {
    "images": [{"id": 7, "file_name": "a.jpg", "width": 64, "height": 48}],
    "categories": [{"id": 1, "name": "person"}],
    "annotations": [PERSON],
}
ENTRIES = [{"image_id": 7, "category_id": 1, "keypoints": TRIPLES, "bbox": [1.0, 2.0, 30.0, 40.0], "score": 0.5}]
ODD = (
    *(None, True, -1, 0, 1e308, -1e308, float("nan"), float("inf"), 10**400, 2**70, "", "abc", "a\0b"),
    *([], {}, [[]], [None], [float("nan")] * 4, [1e308] * 4, {"a": 1}),
)
REMOVED = object()


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Where something can be put into a JSON value; of long lists the first two places."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, part in inner:
        yield from places(part, (*path, key))


def spoilt(content: Any) -> Iterator[str]:
    """The content with an odd value in every place, or nothing there, as JSON."""
    for path in places(content):
        for odd in (*ODD, REMOVED):
            value = copy.deepcopy(content)
            inner = value
            for key in path[:-1]:
                inner = inner[key]
            if odd is REMOVED:
                del inner[path[-1]]
            else:
                inner[path[-1]] = odd
            yield json.dumps(value)


def scored(path: Path) -> None:
    _, skeleton, truth = open_truth(path, "coco")
    for image in truth.images:
        assert np.isfinite(truth_boxes(truth.people_of(image["id"]), (48, 64))).all()
    entries = [{**ENTRIES[0], "image_id": person["image_id"]} for person in truth.people]
    assert np.isfinite(list(keypoint_ap(truth, entries, skeleton.oks_sigmas).values())).all()
    assert np.isfinite([picture.value for picture in oks_scores(truth, entries, skeleton.oks_sigmas)]).all()


def results(path: Path) -> None:
    truth = read_truth(path.with_name("truth.json"), 17)
    entries = read_entries(path, truth)
    assert np.isfinite(list(keypoint_ap(truth, entries, SIGMAS).values())).all()


def boxes(path: Path) -> None:
    assert all(np.isfinite(xyxy).all() and np.isfinite(scores).all() for xyxy, scores in read_boxes(path).values())


def trained_on(path: Path) -> None:
    assert all(np.isfinite(person.box).all() for person in labelled_people(read_coco(path)))


@pytest.mark.parametrize(
    ("content", "read"), [(TRUTH, scored), (ENTRIES, results), (ENTRIES, boxes), (TRUTH, trained_on)]
)
def test_odd_values_anywhere(tmp_path: Path, content: Any, read: Callable[[Path], None]) -> None:
    (tmp_path / "truth.json").write_text(json.dumps(TRUTH))
    path = tmp_path / "a.json"
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for text in spoilt(content):
            path.write_text(text)
            try:
                read(path)
            except AnnotationError as problem:
                refused += 1
                assert "\n" not in str(problem) and len(str(problem)) < 400
    assert refused > 30


def test_odd_values_in_results_of_infer(tmp_path: Path) -> None:
    """What is not finite is one picture's failure."""
    person = {"keypoints": [[1.0, 2.0]] * 17, "keypoint_scores": [0.5] * 17, "bbox": [[1, 2, 3, 4]], "bbox_score": 0.5}
    meta = {"num_keypoints": 17, "keypoint_id2name": {"0": "nose"}}
    value = {"source": "a.jpg", "image_size": {"height": 48, "width": 64}, "meta_info": meta, "instance_info": [person]}
    (tmp_path / "truth.json").write_text(json.dumps(TRUTH))
    truth = read_truth(tmp_path / "truth.json", 17)
    folder = tmp_path / "results"
    folder.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for text in spoilt(value):
            (folder / "a.json").write_text(text)
            with contextlib.suppress(AnnotationError):
                people = read_predictions(folder, truth).people
                assert all(np.isfinite(person.keypoints).all() for person in people)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"images": 1' + "0" * 5000 + "}", "\xff\xfe", ""])
def test_what_json_cannot_be_read_from(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, encoding="latin-1")
    for read in (read_json, read_coco):
        with pytest.raises(AnnotationError, match="expected"):
            read(path)


def test_pictures_that_are_devices_or_pipes_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    store = ImageStore(tmp_path)
    for name in ("pipe.jpg", "/dev/zero", "../../../../../../dev/zero", "a\0b", "."):
        with pytest.raises(InputError, match="picture"):
            store.read(name)


@pytest.mark.parametrize(("name", "text"), [("a.txt", f"a.jpg {'9' * 5000}"), ("a.csv", "h,h\na.jpg," + "x" * 200_000)])
def test_class_lists_with_absurd_cells(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / name).write_text(text)
    with pytest.raises(AnnotationError, match="expected"):
        read_image_folders(tmp_path, (), tmp_path / name)
