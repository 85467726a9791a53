"""Keypoints of MPII's people + ground truth -> PCKh: the share of joints closer than half a head.

Source: ViTPose `topdown_mpii_dataset.py`, after MPII's own evaluation.
"""

from collections.abc import Sequence

import numpy as np

from lite.evaluate.coco_files import KeypointTruth
from lite.evaluate.submit import PredictedPerson

PCKH_NAMES = ("Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle", "PCKh", "PCKh@0.1")
_GROUPS = ((9,), (12, 13), (11, 14), (10, 15), (2, 3), (1, 4), (0, 5))  # the joints of each of the first seven
_COUNTED = (0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15)  # pelvis and thorax do not count in the mean


def pckh(truth: KeypointTruth, keypoints: np.ndarray) -> dict[str, float]:
    """Percentages under the names of `PCKH_NAMES`; -1 where no such joint is labelled.

    Args:
        truth: N people of `mpii_files`.
        keypoints: (N, 16, 2) px of the picture, in the order of `truth.people`; NaN of people who were not found.
    """
    distances, visible = head_distances(truth, keypoints)
    half = _rates(distances <= 0.5, visible)
    tenth = _rates(distances <= 0.1, visible)
    groups = [_mean(half[list(group)]) for group in _GROUPS]
    weights = visible.sum(axis=0)[list(_COUNTED)]
    overall = [_mean(rates[list(_COUNTED)], weights) for rates in (half, tenth)]
    return dict(zip(PCKH_NAMES, groups + overall))


def head_distances(truth: KeypointTruth, keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance of every joint from the truth in heads, infinite of who was not found, and whether it is labelled.

    Returns:
        (N, 16) float64 and (N, 16) bool.
    """
    triples = np.array([person["keypoints"] for person in truth.people], np.float64).reshape(-1, 16, 3)
    sizes = np.array([person["head_size"] for person in truth.people], np.float64)
    found = np.asarray(keypoints, np.float64).reshape(-1, 16, 2)
    distances = np.linalg.norm(found - triples[..., :2], axis=-1) / sizes[:, None]
    return np.where(np.isnan(distances), np.inf, distances), triples[..., 2] > 0


def keypoints_of_people(truth: KeypointTruth, predictions: Sequence[PredictedPerson], *, in_order: bool) -> np.ndarray:
    """(N, 16, 2) px: what was predicted for each person of the truth, NaN where nothing was.

    Args:
        truth: N people.
        predictions: of the same pictures.
        in_order: the n-th person of a picture belongs to its n-th annotation, as with annotated boxes. Otherwise a
            person takes the prediction whose middle is nearest to its own centre, within half its box and each at most
            once, the nearest pair first. (The original knows annotated boxes alone.)
    """
    place = {person["id"]: n for n, person in enumerate(truth.people)}
    result = np.full((len(truth.people), 16, 2), np.nan)
    predicted_of: dict[int, list[PredictedPerson]] = {}
    for prediction in predictions:
        predicted_of.setdefault(prediction.image_id, []).append(prediction)
    for image_id, predicted in predicted_of.items():
        people = truth.people_of(image_id)
        if in_order:
            pairs = [(p.person_id, n) for n, p in enumerate(predicted)]
        else:
            pairs = _nearest(people, predicted)
        for person, prediction in pairs:
            result[place[people[person]["id"]]] = predicted[prediction].keypoints
    return result


def _nearest(people: list[dict], predicted: list[PredictedPerson]) -> list[tuple[int, int]]:
    """Pairs (person, prediction), nearest first, each at most once."""
    centers = np.array([person["center"] for person in people], np.float64).reshape(-1, 2)
    reach = np.array([person["bbox"][2] / 2 for person in people], np.float64)
    middles = np.array([p.keypoints.mean(axis=0) for p in predicted], np.float64).reshape(-1, 2)
    distances = np.linalg.norm(centers[:, None] - middles[None], axis=-1)
    distances[distances > reach[:, None]] = np.inf
    pairs = []
    while distances.size and np.isfinite(distances).any():
        person, prediction = np.unravel_index(distances.argmin(), distances.shape)
        pairs.append((int(person), int(prediction)))
        distances[person], distances[:, prediction] = np.inf, np.inf
    return pairs


def _rates(hits: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Percentage of each joint, NaN where it is labelled on nobody."""
    counts = visible.sum(axis=0)
    return np.where(counts > 0, 100.0 * (hits & visible).sum(axis=0) / np.maximum(counts, 1), np.nan)


def _mean(rates: np.ndarray, weights: np.ndarray | None = None) -> float:
    known = ~np.isnan(rates)
    return float(np.average(rates[known], weights=None if weights is None else weights[known])) if known.any() else -1.0
