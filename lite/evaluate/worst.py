"""How well each picture was understood, and why not better: what the worst cases are chosen and described by."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lite.evaluate.coco_files import KeypointTruth
from lite.evaluate.pckh import head_distances

FOUND_OKS = 0.1  # a person below it has nothing to do with the prediction
GOOD_OKS = 0.5
SURE_SCORE = 0.3  # predictions that score less are no claim that somebody is there


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureScore:
    """One picture.

    Attributes:
        image_id, file_name: of the picture.
        value: mean OKS (of MPII the share of joints within half a head) of its annotated people, 0 of missed ones; 0
            where nobody is and somebody is seen. measure: "OKS" or "PCKh".
        people: annotated ones that count. missed, invented, low: people who were not found, predictions of nobody, and
            people found with an OKS below 0.5 (PCKh: fewer than half of the joints).
        predicted: keypoints (n, K, 3), x, y px and score, of the predictions that found somebody or claim to.
    """

    image_id: int
    file_name: str
    value: float
    measure: str
    people: int
    missed: int = 0
    invented: int = 0
    low: int = 0
    predicted: np.ndarray

    @property
    def reason(self) -> str:
        """In words, the weightiest first."""
        kinds = {"missed people": self.missed, "invented people": self.invented, f"low {self.measure}": self.low}
        return ", ".join(f"{name} {count}" for name, count in kinds.items() if count) or "all found"


def pick_worst(pictures: Iterable[PictureScore], count: int) -> list[PictureScore]:
    """The `count` pictures of lowest value, those with more wrong people first among equals."""
    return sorted(pictures, key=lambda p: (p.value, -(p.missed + p.invented + p.low), p.file_name))[:count]


def oks_scores(
    truth: KeypointTruth, entries: Sequence[dict[str, Any]], oks_sigmas: Sequence[float] | np.ndarray
) -> list[PictureScore]:
    """Every picture with somebody in it, or with somebody seen in it; best predictions choose their person first."""
    entries_of: dict[int, list[dict[str, Any]]] = {}
    for entry in sorted(entries, key=lambda entry: -entry["score"]):
        entries_of.setdefault(entry["image_id"], []).append(entry)
    scores = []
    for image in truth.images:
        everybody = truth.people_of(image["id"])
        people = [person for person in everybody if not person["iscrowd"] and person["num_keypoints"] > 0]
        unjudged = [person["bbox"] for person in everybody if person["iscrowd"] or person["num_keypoints"] == 0]
        mine = entries_of.get(image["id"], [])
        predicted = np.array([entry["keypoints"] for entry in mine], np.float64).reshape(-1, truth.num_keypoints, 3)
        best = np.zeros(len(people))
        shown, invented = [], 0
        similarity = person_oks(people, predicted[..., :2], oks_sigmas)  # (predictions, people)
        free = np.ones(len(people), bool)
        for number, (entry, points, row) in enumerate(zip(mine, predicted, similarity)):
            row = np.where(free, row, -1.0)
            choice = int(row.argmax()) if len(row) else -1
            if choice >= 0 and row[choice] >= FOUND_OKS:
                best[choice], free[choice] = row[choice], False
            elif entry["score"] <= SURE_SCORE:
                continue
            elif image.get("boxes_complete", True) and not _inside_any(points[:, :2].mean(axis=0), unjudged):
                invented += 1
            shown.append(number)
        if not people and not invented:
            continue
        scores.append(
            PictureScore(
                image_id=image["id"],
                file_name=image["file_name"],
                value=float(best.mean()) if people else 0.0,
                measure="OKS",
                people=len(people),
                missed=int(free.sum()),
                invented=invented,
                low=int((~free & (best < GOOD_OKS)).sum()),
                predicted=predicted[shown],
            )
        )
    return scores


def pckh_scores(truth: KeypointTruth, keypoints: np.ndarray) -> list[PictureScore]:
    """Every picture of MPII; `keypoints` as `pckh` takes them."""
    distances, visible = head_distances(truth, keypoints)
    found = ~np.isnan(keypoints).any(axis=(1, 2))
    shares = ((distances <= 0.5) & visible).sum(axis=1) / np.maximum(visible.sum(axis=1), 1)
    scores = []
    for image in truth.images:
        in_picture = [person["image_id"] == image["id"] for person in truth.people]
        mine = np.flatnonzero(in_picture & visible.any(axis=1))
        if not len(mine):
            continue
        points = keypoints[np.flatnonzero(in_picture & found)]
        scores.append(
            PictureScore(
                image_id=image["id"],
                file_name=image["file_name"],
                value=float(shares[mine].mean()),
                measure="PCKh",
                people=len(mine),
                missed=int((~found[mine]).sum()),
                low=int((found[mine] & (shares[mine] < 0.5)).sum()),
                predicted=np.concatenate([points, np.ones((*points.shape[:2], 1))], axis=-1),
            )
        )
    return scores


def person_oks(
    people: Sequence[dict[str, Any]], keypoints: np.ndarray, oks_sigmas: Sequence[float] | np.ndarray
) -> np.ndarray:
    """(P, N) OKS of P predictions, (P, K, 2) px, with N annotated people, over their labelled keypoints.

    Source: COCO, `cocoeval.py`, for people with a labelled keypoint.
    """
    result = np.zeros((len(keypoints), len(people)))
    variance = (2 * np.asarray(oks_sigmas, np.float64)) ** 2
    for n, person in enumerate(people):
        triples = np.asarray(person["keypoints"], np.float64).reshape(-1, 3)
        squared = ((keypoints - triples[:, :2]) ** 2).sum(axis=-1)
        closeness = np.exp(-squared / variance / (person["area"] + np.spacing(1)) / 2)
        result[:, n] = closeness[:, triples[:, 2] > 0].mean(axis=1)
    return result


def _inside_any(point: np.ndarray, boxes: Sequence[Sequence[float]]) -> bool:
    return any(x <= point[0] <= x + w and y <= point[1] <= y + h for x, y, w, h in boxes)
