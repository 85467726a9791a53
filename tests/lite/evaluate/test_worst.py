"""`lite.evaluate.worst`: whose fault a low value is."""

from typing import Any

import numpy as np
import pytest

from lite.evaluate.coco_files import KeypointTruth
from lite.evaluate.worst import oks_scores, pckh_scores, person_oks, pick_worst
from lite.skeletons import load_skeleton

SIGMAS = load_skeleton("coco17").oks_sigmas
POINTS = np.column_stack([np.linspace(10, 80, 17), np.linspace(10, 110, 17)])


def person(number: int, shift: float = 0.0, image_id: int = 1, **changes: Any) -> dict:
    triples = np.column_stack([POINTS + shift, np.full(17, 2)])
    whole = {"id": number, "image_id": image_id, "bbox": [10 + shift, 10 + shift, 70, 100], "area": 7000.0}
    return whole | {"keypoints": triples.ravel().tolist(), "num_keypoints": 17, "iscrowd": 0} | changes


def truth_of(*people: dict, **image: Any) -> KeypointTruth:
    images = [{"id": 1, "file_name": "a.jpg"} | image, {"id": 2, "file_name": "b.jpg"}]
    return KeypointTruth(images=images, people=list(people), category_id=1, num_keypoints=17)


def entry(shift: float = 0.0, score: float = 0.9, image_id: int = 1) -> dict:
    return {
        "image_id": image_id,
        "category_id": 1,
        "score": score,
        "keypoints": np.column_stack([POINTS + shift, np.full(17, score)]).ravel().tolist(),
    }


def test_perfect_and_nobody() -> None:
    (only,) = oks_scores(truth_of(person(1)), [entry()], SIGMAS)
    assert (only.value, only.people, only.reason) == (1.0, 1, "all found")
    assert oks_scores(truth_of(), [], SIGMAS) == []


def test_missed_invented_and_low() -> None:
    truth = truth_of(person(1), person(2, 500), person(3, 1000, image_id=2))
    entries = [entry(12), entry(5000), entry(6000, score=0.1), entry(1000, image_id=2)]
    first, second = oks_scores(truth, entries, SIGMAS)
    assert (first.missed, first.invented, first.low, len(first.predicted)) == (1, 1, 1, 2)
    assert first.reason == "missed people 1, invented people 1, low OKS 1"
    assert first.value == pytest.approx(person_oks([person(1)], POINTS[None] + 12, SIGMAS)[0, 0] / 2)
    assert (second.value, second.missed) == (1.0, 0)
    assert [picture.image_id for picture in pick_worst([second, first], 1)] == [1]


def test_one_prediction_finds_one_person() -> None:
    (picture,) = oks_scores(truth_of(person(1), person(2, 1)), [entry(0.5)], SIGMAS)
    assert (picture.missed, picture.invented) == (1, 0)


def test_crowds_and_incomplete_pictures_excuse() -> None:
    crowd = person(1, 500, iscrowd=1, bbox=[400, 400, 500, 500])
    assert oks_scores(truth_of(crowd), [entry(500)], SIGMAS) == []
    assert oks_scores(truth_of(boxes_complete=False), [entry(500)], SIGMAS) == []
    (picture,) = oks_scores(truth_of(), [entry(500)], SIGMAS)
    assert (picture.value, picture.reason) == (0.0, "invented people 1")


def test_oks_counts_labelled_keypoints_alone() -> None:
    half = person(1)
    half["keypoints"][2::6] = [0] * 9  # every second keypoint unlabelled
    guess = POINTS.copy()
    guess[::2] += 1000
    assert person_oks([half], guess[None], SIGMAS)[0, 0] == 1.0
    assert person_oks([], guess[None], SIGMAS).shape == (1, 0)


def test_pckh_of_pictures() -> None:
    joints = np.column_stack([np.linspace(0, 50, 16), np.linspace(0, 90, 16), np.full(16, 2)])
    people = [
        person(n, keypoints=joints.ravel().tolist(), head_size=10.0, image_id=i) for n, i in ((1, 1), (2, 1), (3, 2))
    ]
    truth = KeypointTruth(images=truth_of().images, people=people, category_id=1, num_keypoints=16)
    found = np.stack([joints[:, :2], np.full((16, 2), np.nan), joints[:, :2] + 100])
    first, second = pckh_scores(truth, found)
    assert (first.value, first.missed, first.low, first.measure, len(first.predicted)) == (0.5, 1, 0, "PCKh", 1)
    assert (second.value, second.missed, second.low, second.reason) == (0.0, 0, 1, "low PCKh 1")
