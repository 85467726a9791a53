"""Candidates to people, against arrays of the original and where it goes wrong."""

from pathlib import Path

import numpy as np
import pytest

from lite.errors import ConfigError
from lite.group import Group, Grouping, group_by_tag

CASES = ["single", "single_partial", "two_overlapping", "three_missing", "four_flip_tags", "tag_conflict"]
CASES += ["split_person", "crowd12", "crowd12_close_tags", "three_default_thr", "max_people_4"]
ORIGINAL = {"keep": "first", "merge_equal_tags": True}


def candidates(stored: np.lib.npyio.NpzFile, case: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The stored peaks with the quarter pixel of people that were found; that of other peaks counts nowhere."""
    places, scores = stored[f"{case}/topk_coords"].astype(np.float32), stored[f"{case}/topk_scores"]
    adjusted = stored[f"{case}/joints_adjust"]
    for joint, place in ((j, p) for person in adjusted for j, p in enumerate(person) if p[2] > 0):
        same = (places[joint] == np.floor(place[:2])).all(axis=1)
        places[joint, same] = place[:2]
    return places, scores, stored[f"{case}/topk_tags"]


def options(stored: np.lib.npyio.NpzFile, case: str, **others: object) -> Grouping:
    most, det_thr, tag_thr = stored[f"{case}/params"].tolist()
    return Grouping(det_thr=det_thr, tag_thr=tag_thr, max_people=int(most), **others)


@pytest.mark.parametrize("case", CASES)
def test_people_are_those_of_the_original(golden: Path, case: str) -> None:
    with np.load(golden / "higherhrnet/grouping.npz") as stored:
        wanted = stored[f"{case}/joints_adjust"]
        group = group_by_tag(*candidates(stored, case), options(stored, case, **ORIGINAL))
        found = np.concatenate([group.keypoints, group.scores[..., None], group.tags], axis=2)
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        np.testing.assert_allclose(group.person_scores, stored[f"{case}/person_scores"], atol=1e-6)
        if case != "max_people_4":  # where nothing goes wrong the mended rules give the same
            ours = group_by_tag(*candidates(stored, case), options(stored, case))
            np.testing.assert_array_equal(ours.keypoints, group.keypoints)


def test_nobody_is_no_person(golden: Path) -> None:
    with np.load(golden / "higherhrnet/grouping.npz") as stored:
        assert len(stored["nobody/joints"]) == 1  # the original invents one
        values = stored["nobody/topk_coords"], stored["nobody/topk_scores"], stored["nobody/topk_tags"]
        group = group_by_tag(*values, options(stored, "nobody"))
    assert len(group) == 0
    assert group.keypoints.shape == (0, 17, 2) and group.scores.shape == (0, 17) and group.tags.shape == (0, 17, 1)


def people(tags: list[float], scores: list[float], joints: int = 17) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Candidates of people who stand side by side, 100 px apart; every keypoint of a person has one tag and score."""
    order = np.argsort(-np.array(scores), kind="stable")
    places = np.stack([100.0 * np.arange(len(tags))[order], np.zeros(len(tags))], axis=1)
    spread = np.broadcast_to(places[None], (joints, *places.shape)) + np.arange(joints)[:, None, None]
    values = np.broadcast_to(np.array(scores)[order], (joints, len(tags)))
    tag_values = np.broadcast_to(np.array(tags)[order, None], (joints, len(tags), 1))
    return spread.astype(np.float32), values.astype(np.float32), tag_values.astype(np.float32)


def test_one_person_and_many_are_found_in_their_order() -> None:
    for count in (1, 25):
        group = group_by_tag(
            *people([3.0 * n for n in range(count)], [0.9 - 0.01 * n for n in range(count)]), Grouping()
        )
        assert group.keypoints[:, 0, 0].tolist() == [100.0 * n for n in range(count)]
        assert (group.scores > 0).all()
        np.testing.assert_allclose(np.ptp(group.keypoints[..., 0], axis=1), 16)  # nobody has another's keypoint


def test_equal_tags_do_not_make_one_person_of_two() -> None:
    values = people([1.0, 1.0], [0.9, 0.8])
    original = group_by_tag(*values, Grouping(**ORIGINAL))
    assert len(original) == 1
    group = group_by_tag(*values, Grouping())
    assert len(group) == 2
    assert group.scores.sum(axis=1).max() == pytest.approx(17 * 0.9)


def test_the_best_stay_when_there_are_too_many() -> None:
    """Somebody who shows the first keypoint alone is found before, but not kept instead of, people seen whole."""
    places, scores, tags = people([0.0, 10.0, 20.0], [0.9, 0.8, 0.7])
    scores[1:, 0] = 0.0  # of the first person only the nose
    group = group_by_tag(places, scores, tags, Grouping(max_people=2))
    assert group.keypoints[:, 0, 0].tolist() == [100.0, 200.0]
    original = group_by_tag(places, scores, tags, Grouping(max_people=2, **ORIGINAL))
    assert original.keypoints[:, 0, 0].tolist() == [0.0, 100.0]


def test_limits_hold_for_noise() -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(0, 500, (17, 30, 2)), -np.sort(-rng.uniform(0, 1, (17, 30))), rng.normal(0, 50, (17, 30, 2))
    assert len(group_by_tag(*(v.astype(np.float32) for v in values), Grouping())) == 30
    group = group_by_tag(*(v.astype(np.float32) for v in values), Grouping(person_thr=0.0585))
    assert 0 < len(group) < 30 and group.person_scores.min() >= 0.0585


def test_thresholds_are_strict_where_the_original_is() -> None:
    values = people([1.0], [0.25])
    assert len(group_by_tag(*values, Grouping(det_thr=0.25))) == 0
    values[2][5:] = 1.5  # as far as tag_thr from the mean of the first five, so not theirs
    group = group_by_tag(*values, Grouping(tag_thr=0.5, rounded=False))
    assert (group.scores > 0).sum(axis=1).tolist() == [5, 12]
    # Rounded, both people are equally far and the first is asked every time, only to be too far.
    assert len(group_by_tag(*values, Grouping(tag_thr=0.5))) == 13


def test_huge_tags_do_not_overflow() -> None:
    values = people([3e38, -3e38], [0.9, 0.8])
    group = group_by_tag(*values, Grouping())
    assert 2 <= len(group) <= 30 and np.isfinite(group.keypoints).all()


def test_what_is_not_finite_counts_nowhere() -> None:
    places, scores, tags = people([0.0, 5.0], [0.9, 0.8])
    scores[3, 0], tags[4, 1] = np.nan, np.inf
    group = group_by_tag(places, scores, tags, Grouping())
    assert (group.scores > 0).sum(axis=1).tolist() == [16, 16] and np.isfinite(group.tags).all()


def test_other_skeletons_are_grouped_too() -> None:
    group = group_by_tag(*people([0.0, 5.0], [0.9, 0.8], joints=14), Grouping())
    assert group.scores.shape == (2, 14) and (group.scores > 0).all()


def test_of_keeps_what_belongs_together() -> None:
    group = group_by_tag(*people([0.0, 5.0], [0.9, 0.8]), Grouping())
    second = group.of(np.array([1]))
    assert isinstance(second, Group) and second.keypoints[0, 0, 0] == 100 and second.tags[0, 0, 0] == 5


@pytest.mark.parametrize("wrong", [{"det_thr": -0.1}, {"tag_thr": float("nan")}, {"max_people": 0}, {"keep": "last"}])
def test_settings_are_checked(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Grouping(**wrong)
