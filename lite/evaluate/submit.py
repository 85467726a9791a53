"""Predicted people -> entries of the COCO results format: one score a person, near-copies suppressed by OKS.

Source: mmpose, `evaluation/metrics/coco_metric.py` and `functional/nms.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lite.geometry import oks_nms

KEYPOINT_THR = 0.2
OKS_THR = 0.9


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictedPerson:
    """One person as a network predicted it.

    Attributes:
        image_id: id of the picture in the annotation file.
        person_id: tells two predictions of one picture apart; of equal ones the first is kept.
        keypoints: (K, 2) float, px of the picture.
        keypoint_scores: (K,) float.
        box_score: the detector's score; 1 for a ground-truth box.
        area: px^2 of the padded, aspect-fixed box the crop was cut from; the size in the suppression.
    """

    image_id: int
    person_id: int
    keypoints: np.ndarray
    keypoint_scores: np.ndarray
    box_score: float
    area: float


@dataclass(frozen=True, kw_only=True)
class SubmitRule:
    """How predicted people become entries; the defaults are those of the published evaluations.

    Attributes:
        person_score: "box-times-keypoints", "keypoints" (their mean alone) or "given" (the box score alone, where
            bottom-up networks give the person's).
        vis_thr: keypoints at or below it do not count in the mean.
        oks_thr: a person more similar than this to a better one of the same picture is dropped.
        soft: lower the scores of similar people instead, order them anew and keep the best `max_people`; the scores
            that are submitted stay as they were.
        max_people: see `soft`.
    """

    person_score: Literal["box-times-keypoints", "keypoints", "given"] = "box-times-keypoints"
    vis_thr: float = KEYPOINT_THR
    oks_thr: float = OKS_THR
    soft: bool = False
    max_people: int = 20


def person_score(box_score: float, keypoint_scores: np.ndarray, rule: SubmitRule) -> float:
    """Score of a person as `rule` asks, from the mean of the keypoint scores strictly above `vis_thr`, 0 of none."""
    if rule.person_score == "given":
        return float(box_score)
    sure = keypoint_scores[keypoint_scores > rule.vis_thr]
    mean = float(sure.mean()) if sure.size else 0.0
    return mean if rule.person_score == "keypoints" else float(box_score) * mean


def submit(
    predictions: Sequence[PredictedPerson],
    oks_sigmas: Sequence[float] | np.ndarray,
    *,
    category_id: int = 1,
    rule: SubmitRule = SubmitRule(),
) -> list[dict[str, Any]]:
    """What is sent to the scorer: one entry a person, pictures in order of first appearance, best person first.

    Args:
        predictions: people of any number of pictures.
        oks_sigmas: (K,) of the skeleton.
        category_id: of the person class in the annotation file.
        rule: scores and suppression.

    Returns:
        Dicts with `image_id`, `category_id`, `keypoints` (flat x, y, score, all K) and `score`.
    """
    people_of: dict[int, dict[int, PredictedPerson]] = {}
    for person in predictions:
        people_of.setdefault(person.image_id, {}).setdefault(person.person_id, person)
    entries = []
    for image_id, by_id in people_of.items():
        people = [by_id[person_id] for person_id in sorted(by_id)]
        scores = np.array([person_score(p.box_score, p.keypoint_scores, rule) for p in people])
        keypoints = np.stack([p.keypoints for p in people]).astype(np.float64)
        areas = np.array([p.area for p in people], np.float64)
        options: dict[str, Any] = {"soft": rule.soft, "max_people": rule.max_people}
        for i in oks_nms(keypoints, scores, areas, oks_sigmas, rule.oks_thr, **options):
            triples = np.column_stack([keypoints[i], people[i].keypoint_scores])
            entry = {"image_id": image_id, "category_id": category_id, "keypoints": triples.ravel().tolist()}
            entries.append(entry | {"score": float(scores[i])})
    return entries
