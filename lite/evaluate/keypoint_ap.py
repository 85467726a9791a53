"""Result entries + ground truth -> the ten COCO keypoint numbers, those of each part, and CrowdPose's nine.

pycocotools does the matching; submit.py makes the entries.
Source: mmpose, `evaluation/metrics/coco_metric.py` and `coco_wholebody_metric.py`; COCO, `cocoeval.py`; CrowdPose's own
evaluation.
"""

import contextlib
import io
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from lite.errors import AnnotationError, MissingExtraError
from lite.evaluate.coco_files import KeypointTruth
from lite.evaluate.json_values import is_number, short

AP_NAMES = ("AP", "AP .5", "AP .75", "AP (M)", "AP (L)", "AR", "AR .5", "AR .75", "AR (M)", "AR (L)")
CROWD_LEVELS = {"AP(E)": 0.2, "AP(M)": 0.8, "AP(H)": float("inf")}  # name -> crowdIndex it ends at
BODY_KEYPOINTS = 17  # whole-body skeletons begin with COCO's; the size class of a prediction comes from these alone
MAX_PEOPLE = 20


def keypoint_ap(
    truth: KeypointTruth,
    entries: Sequence[dict[str, Any]],
    oks_sigmas: Sequence[float] | np.ndarray,
    part: Sequence[int] | None = None,
    *,
    body: Sequence[int] = range(BODY_KEYPOINTS),
    image_ids: Collection[int] | None = None,
    max_people: int = MAX_PEOPLE,
) -> dict[str, float]:
    """The ten COCO numbers under the names of `AP_NAMES`; -1 where a size class has no ground truth.

    Args:
        truth: ground truth of K keypoints.
        entries: what `submit` gave or a results file holds, K keypoints each.
        oks_sigmas: (K,) of the skeleton.
        part: score these keypoints alone; a person without a labelled one among them is ignored.
        body: keypoints whose extent is the size of a prediction.
        image_ids: pictures that count; None counts all.
        max_people: the best so many of a picture are scored.

    Raises:
        MissingExtraError: pycocotools is not installed.
    """
    people, predicted = truth.people, [_plain_entry(entry, n, body) for n, entry in enumerate(entries, start=1)]
    sigmas = np.asarray(oks_sigmas, np.float64)
    if part is not None:
        sigmas = sigmas[list(part)]
        people = [_only(person, part) for person in people]
        predicted = [_only(entry, part) for entry in predicted]
    precision, recall = _match(truth, people, predicted, sigmas, image_ids, max_people)
    rows = [(slice(None), 0), ([0], 0), ([5], 0), (slice(None), 1), (slice(None), 2)]
    means = [_mean(table[thresholds][..., size]) for table in (precision, recall) for thresholds, size in rows]
    return dict(zip(AP_NAMES, means))


def keypoint_ap_by_part(
    truth: KeypointTruth,
    entries: Sequence[dict[str, Any]],
    oks_sigmas: Sequence[float] | np.ndarray,
    parts: dict[str, Sequence[int]],
    **options: Any,
) -> dict[str, dict[str, float]]:
    """`keypoint_ap` of each named part (body, foot, face, ...), in the order of `parts`."""
    return {name: keypoint_ap(truth, entries, oks_sigmas, part, **options) for name, part in parts.items()}


def crowd_ap(
    truth: KeypointTruth,
    entries: Sequence[dict[str, Any]],
    oks_sigmas: Sequence[float] | np.ndarray,
    *,
    image_ids: Collection[int] | None = None,
    max_people: int = MAX_PEOPLE,
) -> dict[str, float]:
    """CrowdPose's nine numbers: AP and AR, and AP of the easy, medium and hard pictures by their `crowdIndex`.

    Raises:
        AnnotationError: a picture has no `crowdIndex`.
        MissingExtraError: pycocotools is not installed.
    """
    counted = truth.image_ids if image_ids is None else set(image_ids)
    options: dict[str, Any] = {"max_people": max_people}
    overall = keypoint_ap(truth, entries, oks_sigmas, image_ids=counted, **options)
    numbers = {name: overall[name] for name in ("AP", "AP .5", "AP .75", "AR", "AR .5", "AR .75")}
    levels: dict[str, set[int]] = {name: set() for name in CROWD_LEVELS}
    for image in truth.images:
        if not is_number(image.get("crowdIndex")):
            raise AnnotationError(
                f"annotations: expected a crowdIndex for {image['file_name']}, found {short(image.get('crowdIndex'))}; "
                "without them take --dataset coco"
            )
        level = next(name for name, end in CROWD_LEVELS.items() if image["crowdIndex"] < end)
        levels[level].add(image["id"])
    for level, ids in levels.items():
        ids &= counted
        numbers[level] = keypoint_ap(truth, entries, oks_sigmas, image_ids=ids, **options)["AP"] if ids else -1.0
    return numbers


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


def _match(
    truth: KeypointTruth,
    people: list[dict[str, Any]],
    predicted: list[dict[str, Any]],
    sigmas: np.ndarray,
    image_ids: Collection[int] | None,
    max_people: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Precision (thresholds, recalls, sizes: all, medium, large) and recall (thresholds, sizes); -1 without truth."""
    coco_class, evaluator_class = load_pycocotools()
    with silence():
        evaluator = evaluator_class(
            truth.index(coco_class, people), truth.index(coco_class, predicted), iouType="keypoints"
        )
        evaluator.params.kpt_oks_sigmas = sigmas
        evaluator.params.catIds = [truth.category_id]
        evaluator.params.maxDets = [max_people]
        if image_ids is not None:
            evaluator.params.imgIds = sorted(image_ids)
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator.eval["precision"][:, :, 0, :, 0], evaluator.eval["recall"][:, 0, :, 0]


def _only(person: dict[str, Any], part: Sequence[int]) -> dict[str, Any]:
    triples = np.asarray(person["keypoints"], np.float64).reshape(-1, 3)[list(part)]
    return person | {"keypoints": triples.ravel().tolist(), "num_keypoints": int((triples[:, 2] > 0).sum())}


def _plain_entry(entry: dict[str, Any], number: int, body: Sequence[int]) -> dict[str, Any]:
    triples = np.asarray(entry["keypoints"], np.float64).reshape(-1, 3)
    width, height = np.ptp(triples[[k for k in body if k < len(triples)], :2], axis=0)
    return {
        "id": number,  # 0 would mean "not matched" to pycocotools
        "image_id": entry["image_id"],
        "category_id": entry["category_id"],
        "keypoints": triples.ravel().tolist(),
        "score": float(entry["score"]),
        "area": float(width * height),
        "iscrowd": 0,
    }


def _mean(values: np.ndarray) -> float:
    """As in pycocotools' own `summarize`, which can neither be silent nor take another `maxDets`."""
    values = values[values > -1]
    return float(values.mean()) if values.size else -1.0
