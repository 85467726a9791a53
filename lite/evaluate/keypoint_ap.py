"""Keypoint predictions + ground truth -> the ten COCO keypoint numbers.

Two steps, as in the published evaluations: `submit` turns every predicted person into an entry of the COCO results
format (score fusion, duplicate removal, suppression by object keypoint similarity); `keypoint_ap` scores such entries
with pycocotools.
Source: mmpose, `evaluation/metrics/coco_metric.py` and `coco_wholebody_metric.py`; COCO, `cocoeval.py`.
"""

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lite.errors import MissingExtraError
from lite.evaluate.coco_files import KeypointTruth
from lite.geometry import oks_nms

AP_NAMES = ("AP", "AP .5", "AP .75", "AP (M)", "AP (L)", "AR", "AR .5", "AR .75", "AR (M)", "AR (L)")
BODY_KEYPOINTS = 17  # whole-body skeletons begin with COCO's; the size class of a prediction comes from these alone
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


def fused_score(box_score: float, keypoint_scores: np.ndarray, keypoint_thr: float = KEYPOINT_THR) -> float:
    """Box score times the mean of the keypoint scores strictly above `keypoint_thr`; 0 when there are none."""
    sure = keypoint_scores[keypoint_scores > keypoint_thr]
    return float(box_score) * float(sure.mean()) if sure.size else 0.0


def submit(
    predictions: Sequence[PredictedPerson],
    oks_sigmas: np.ndarray,
    *,
    category_id: int = 1,
    keypoint_thr: float = KEYPOINT_THR,
    oks_thr: float = OKS_THR,
) -> list[dict[str, Any]]:
    """What is sent to the scorer: one entry a person, pictures in order of first appearance, best person first.

    Args:
        predictions: people of any number of pictures.
        oks_sigmas: (K,) of the skeleton.
        category_id: of the person class in the annotation file.
        keypoint_thr: keypoints at or below it do not count in the score.
        oks_thr: a person more similar than this to a better one of the same picture is dropped.

    Returns:
        Dicts with `image_id`, `category_id`, `keypoints` (flat x, y, score, all K) and `score`.
    """
    people_of: dict[int, dict[int, PredictedPerson]] = {}
    for person in predictions:
        people_of.setdefault(person.image_id, {}).setdefault(person.person_id, person)
    entries = []
    for image_id, by_id in people_of.items():
        people = [by_id[person_id] for person_id in sorted(by_id)]
        scores = np.array([fused_score(p.box_score, p.keypoint_scores, keypoint_thr) for p in people])
        keypoints = np.stack([p.keypoints for p in people]).astype(np.float64)
        areas = np.array([p.area for p in people], np.float64)
        for i in oks_nms(keypoints, scores, areas, oks_sigmas, oks_thr):
            triples = np.column_stack([keypoints[i], people[i].keypoint_scores])
            entry = {"image_id": image_id, "category_id": category_id, "keypoints": triples.ravel().tolist()}
            entries.append(entry | {"score": float(scores[i])})
    return entries


def keypoint_ap(
    truth: KeypointTruth,
    entries: Sequence[dict[str, Any]],
    oks_sigmas: np.ndarray,
    part: tuple[int, int] | None = None,
    max_people: int = 20,
) -> dict[str, float]:
    """The ten COCO numbers under the names of `AP_NAMES`; -1 where a size class has no ground truth.

    Args:
        truth: ground truth of K keypoints.
        entries: what `submit` gave or a results file holds, K keypoints each.
        oks_sigmas: (K,) of the skeleton.
        part: (start, stop) to score these keypoints alone; a person without a labelled one among them is ignored.
        max_people: the best so many of a picture are scored.

    Raises:
        MissingExtraError: pycocotools is not installed.
    """
    coco_class, evaluator_class = load_pycocotools()
    keep = slice(*(part or (0, len(oks_sigmas))))
    people = truth.people if part is None else [_cut_truth(person, keep) for person in truth.people]
    predicted = [_cut_prediction(entry, keep, number) for number, entry in enumerate(entries, start=1)]
    with silence():
        evaluator = evaluator_class(
            truth.index(coco_class, people), truth.index(coco_class, predicted), iouType="keypoints"
        )
        evaluator.params.kpt_oks_sigmas = np.asarray(oks_sigmas, np.float64)[keep]
        evaluator.params.catIds = [truth.category_id]
        evaluator.params.maxDets = [max_people]
        evaluator.evaluate()
        evaluator.accumulate()
    return dict(zip(AP_NAMES, _summarise(evaluator)))


def keypoint_ap_by_part(
    truth: KeypointTruth, entries: Sequence[dict[str, Any]], oks_sigmas: np.ndarray, parts: dict[str, tuple[int, int]]
) -> dict[str, dict[str, float]]:
    """`keypoint_ap` of each named part (body, foot, face, ...), in the order of `parts`."""
    return {name: keypoint_ap(truth, entries, oks_sigmas, part) for name, part in parts.items()}


def load_pycocotools() -> tuple[type, type]:
    """pycocotools' `COCO` and `COCOeval`.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise MissingExtraError("pycocotools", "eval", "scoring COCO keypoints") from None
    return COCO, COCOeval


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """pycocotools prints its progress; nobody asked."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _cut_truth(person: dict[str, Any], keep: slice) -> dict[str, Any]:
    triples = np.asarray(person["keypoints"], np.float64).reshape(-1, 3)[keep]
    return person | {"keypoints": triples.ravel().tolist(), "num_keypoints": int((triples[:, 2] > 0).sum())}


def _cut_prediction(entry: dict[str, Any], keep: slice, number: int) -> dict[str, Any]:
    triples = np.asarray(entry["keypoints"], np.float64).reshape(-1, 3)
    width, height = np.ptp(triples[:BODY_KEYPOINTS, :2], axis=0)
    return {
        "id": number,  # 0 would mean "not matched" to pycocotools
        "image_id": entry["image_id"],
        "category_id": entry["category_id"],
        "keypoints": triples[keep].ravel().tolist(),
        "score": float(entry["score"]),
        "area": float(width * height),
        "iscrowd": 0,
    }


def _summarise(evaluator: Any) -> list[float]:
    """Means as in pycocotools' own `summarize`, which can neither be silent nor take another `maxDets`."""
    precision = evaluator.eval["precision"][:, :, 0, :, 0]  # (thresholds, recalls, sizes: all, medium, large)
    recall = evaluator.eval["recall"][:, 0, :, 0]  # (thresholds, sizes)
    rows = [(slice(None), 0), ([0], 0), ([5], 0), (slice(None), 1), (slice(None), 2)]
    means = []
    for table in (precision, recall):
        for thresholds, size in rows:
            values = table[thresholds][..., size]
            values = values[values > -1]
            means.append(float(values.mean()) if values.size else -1.0)
    return means
