"""What people lack is found where the original finds it, and where looking at every pixel does."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from lite import refine as module
from lite.group import Group
from lite.refine import refine


@pytest.mark.parametrize("case", ["split_person", "four_flip_tags"])
def test_places_are_those_of_the_original(golden: Path, case: str) -> None:
    with np.load(golden / "higherhrnet/grouping.npz") as stored:
        heat = stored[f"{case}/heat_q"].astype(np.float32) / 16384
        tags = np.moveaxis(stored[f"{case}/tags_q"].astype(np.float32) / 128, 3, 1)
        before, wanted = stored[f"{case}/joints_adjust"], stored[f"{case}/joints"]
        scores = stored[f"{case}/person_scores"]
    assert (before[..., 2] == 0).sum() > (wanted[..., 2] == 0).sum()
    group = refine(made(before, scores), heat, tags, heat.shape[1:])
    found = np.concatenate([group.keypoints, group.scores[..., None], group.tags], axis=2)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    np.testing.assert_array_equal(group.person_scores, scores)


def made(joints: np.ndarray, scores: np.ndarray) -> Group:
    """A group of stored (P, K, 3 + E) joints."""
    values = joints.astype(np.float32)
    return Group(keypoints=values[..., :2], scores=values[..., 2], tags=values[..., 3:], person_scores=scores)


def smooth(rng: np.random.Generator, count: int, hw: tuple[int, int], blur: float) -> np.ndarray:
    """Random maps with spots of some cells."""
    maps = [cv2.GaussianBlur(rng.normal(size=hw), (0, 0), blur) for _ in range(count)]
    return np.stack([one / one.std() for one in maps]).astype(np.float32)


@pytest.mark.parametrize("embeddings", [1, 2])
@pytest.mark.parametrize("blur", [1.0, 6.0])
def test_bounds_leave_nothing_out(embeddings: int, blur: float) -> None:
    rng = np.random.default_rng(int(blur) + embeddings)
    size_hw, joints, people = (192, 256), 4, 5
    heat = smooth(rng, joints, (96, 128), blur) * 0.3
    tags = smooth(rng, joints * embeddings, (48, 64), blur).reshape(joints, embeddings, 48, 64) * 3
    group = Group(
        keypoints=np.zeros((people, joints, 2), np.float32),
        scores=np.eye(people, joints, dtype=np.float32),  # each person but the last has one keypoint
        tags=np.repeat(rng.normal(0, 3, (people, 1, embeddings)), joints, axis=1).astype(np.float32),
        person_scores=np.zeros(people, np.float32),
    )
    found = refine(group, heat, tags, size_hw)
    filled = 0
    for joint in range(joints):
        full, *full_tags = (
            cv2.resize(m, size_hw[::-1], interpolation=cv2.INTER_LINEAR) for m in (heat[joint], *tags[joint])
        )
        for person in np.flatnonzero(group.scores[:, joint] == 0):
            reference = group.tags[person, person] if person < joints else np.zeros(embeddings)
            distance = np.sqrt(sum((one - value) ** 2 for one, value in zip(full_tags, reference)))
            y, x = np.unravel_index((full - np.rint(distance)).argmax(), size_hw)
            wanted = [x, y] if full[y, x] > 0 else [0, 0]
            assert np.floor(found.keypoints[person, joint]).tolist() == wanted
            assert found.scores[person, joint] == pytest.approx(max(full[y, x], 0), abs=1e-6)
            filled += full[y, x] > 0
    assert filled > 4


def test_looking_at_whole_maps_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    heat, tags = smooth(rng, 2, (64, 64), 3) * 0.3, smooth(rng, 2, (32, 32), 3)[:, None]
    group = made(np.array([[[5, 5, 1, 0.3], [0, 0, 0, 0]], [[9, 9, 1, -0.7], [0, 0, 0, 0]]]), np.ones(2, np.float32))
    by_blocks = refine(group, heat, tags, (128, 128))
    monkeypatch.setattr(module, "MOST_BLOCKS", 0)
    whole = refine(group, heat, tags, (128, 128))
    assert by_blocks.scores[:, 1].min() > 0
    np.testing.assert_array_equal(whole.keypoints, by_blocks.keypoints)
    np.testing.assert_allclose(whole.scores, by_blocks.scores, atol=1e-6)


def test_nobody_and_nothing_missing() -> None:
    maps, tags = np.ones((2, 16, 16), np.float32), np.zeros((2, 1, 16, 16), np.float32)
    nobody = made(np.zeros((0, 2, 4)), np.zeros(0, np.float32))
    assert len(refine(nobody, maps, tags, (16, 16))) == 0
    whole = made(np.array([[[3.25, 4.75, 0.5, 1.0]] * 2]), np.array([0.5], np.float32))
    np.testing.assert_array_equal(refine(whole, maps, tags, (16, 16)).keypoints, whole.keypoints)


def test_nothing_is_filled_in_where_the_map_is_not_above_0() -> None:
    maps, tags = np.zeros((2, 16, 16), np.float32), np.zeros((2, 1, 16, 16), np.float32)
    group = made(np.array([[[3.25, 4.75, 0.5, 1.0], [0, 0, 0, 0]]]), np.array([0.25], np.float32))
    refined = refine(group, maps, tags, (16, 16))
    assert refined.scores.tolist() == [[0.5, 0.0]] and refined.keypoints[0, 1].tolist() == [0, 0]


def test_huge_tags_are_far_away() -> None:
    tags = np.full((2, 2, 16, 16), 3e38, np.float32)
    tags[1, :, 4:6, 10:12] = 1.0
    group = made(np.array([[[3.25, 4.75, 0.5, 1.0, 1.0], [0, 0, 0, 0, 0]]]), np.array([0.25], np.float32))
    refined = refine(group, np.full((2, 16, 16), 0.5, np.float32), tags, (16, 16))
    assert refined.keypoints[0, 1].tolist() == [10.25, 4.25]


def test_all_stored_cases(shared: Path) -> None:
    with np.load(shared / "reference/higherhrnet/golden/grouping.npz") as stored:
        cases = [case for case in stored["case_names"].tolist() if case != "nobody"]
        assert len(cases) == 11
        for case in cases:
            heat = stored[f"{case}/heat_q"].astype(np.float32) / 16384
            tags = np.moveaxis(stored[f"{case}/tags_q"].astype(np.float32) / 128, 3, 1)
            group = made(stored[f"{case}/joints_adjust"], stored[f"{case}/person_scores"])
            refined = refine(group, heat, tags, heat.shape[1:])
            np.testing.assert_allclose(refined.keypoints, stored[f"{case}/joints"][..., :2], atol=1e-3, err_msg=case)
            np.testing.assert_allclose(refined.scores, stored[f"{case}/joints"][..., 2], atol=1e-5, err_msg=case)
