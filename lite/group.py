"""Candidates with tags -> people in pixels of the network's input: the half of bottom-up decoding that is a search.

Every keypoint in turn is matched with the people found so far, by the distance of its tag to the mean of theirs. numpy
only; one picture at a time.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lite.assignment import assign
from lite.errors import ConfigError

# From the middle of the body outwards; keypoints of other skeletons are visited in their own order.
ORDER_OF_17 = (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)
MATCHED_AT_ONCE = 60  # people; noise makes hundreds, and the time of matching grows with the third power
LARGEST_TAG = np.float32(1e7)  # trained ones are below 100; costs stay finite and below the next line's
NO_PARTNER = 1e10  # cost of giving a candidate to nobody


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """How candidates become people.

    Attributes:
        det_thr: candidates scoring more count.
        tag_thr: a candidate joins a person whose mean tag is nearer than this.
        max_people: people in one picture at most.
        keep: who stays when there are more: "best" those with the highest scores; "first" those found first, and only
            as many candidates of each keypoint are looked at, as in the original.
        refine: look for what a person lacks in the maps, near the person's tag.
        rounded: match by distances rounded to whole numbers, as published; of people whose tags are nearer than 0.5 the
            order of a search then decides who gets a keypoint. Not rounded, the nearest does.
        merge_equal_tags: as in the original, a new person whose first tag equals another's to the last bit takes the
            other's place, which makes one of two people.
        person_thr: people scoring less are left out.

    Raises:
        ConfigError: a threshold below 0 or no people allowed.
    """

    det_thr: float = 0.05
    tag_thr: float = 0.5
    max_people: int = 30
    keep: Literal["best", "first"] = "best"
    refine: bool = True
    rounded: bool = True
    merge_equal_tags: bool = False
    person_thr: float = 0.0

    def __post_init__(self) -> None:
        for name in ("det_thr", "tag_thr", "person_thr"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name}: expected 0 or more, found {getattr(self, name)}")
        if self.max_people < 1:
            raise ConfigError(f"max_people: expected 1 or more, found {self.max_people}")
        if self.keep not in ("best", "first"):
            raise ConfigError(f"keep: expected best or first, found {self.keep!r}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """People of one picture, in the order they were found.

    Attributes:
        keypoints: (P, K, 2) float32 px of the network's input; (0, 0) where `scores` is 0.
        scores: (P, K) float32, the heatmap there; 0 where nothing was found.
        tags: (P, K, E) float32; 0 where nothing was found or `refine` found it.
        person_scores: (P,) float32, mean of the scores over all K before `refine`.
    """

    keypoints: np.ndarray
    scores: np.ndarray
    tags: np.ndarray
    person_scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def of(self, chosen: np.ndarray) -> "Group":
        """Some of the people."""
        return Group(
            keypoints=self.keypoints[chosen],
            scores=self.scores[chosen],
            tags=self.tags[chosen],
            person_scores=self.person_scores[chosen],
        )


class _People:
    """People under construction: for each keypoint which candidate they have, and the sum of their tags."""

    def __init__(self, num_keypoints: int, num_tags: int) -> None:
        self.candidate = np.zeros((0, num_keypoints), np.int64)
        self.score = np.zeros(0)
        self.tag_sum = np.zeros((0, num_tags), np.float32)
        self.count = np.zeros(0, np.float32)
        self.by_first_tag: dict[float, int] = {}

    def add(self, person: int, joint: int, candidate: int, tag: np.ndarray, score: float) -> None:
        self.candidate[person, joint] = candidate
        self.tag_sum[person] += tag
        self.count[person] += 1
        self.score[person] += score

    def start(self, joint: int, candidate: int, tag: np.ndarray, score: float, merge_equal: bool) -> None:
        person = self.by_first_tag.get(float(tag[0])) if merge_equal else None
        if person is None:
            person = len(self.candidate)
            self.by_first_tag[float(tag[0])] = person
            self.candidate = np.concatenate([self.candidate, np.full((1, self.candidate.shape[1]), -1)])
            self.score = np.append(self.score, 0.0)
            self.tag_sum = np.concatenate([self.tag_sum, np.zeros_like(tag)[None]])
            self.count = np.append(self.count, np.float32(0))
        else:
            self.tag_sum[person], self.count[person] = 0, 0
        self.add(person, joint, candidate, tag, score)


def group_by_tag(keypoints: np.ndarray, scores: np.ndarray, tags: np.ndarray, options: Grouping) -> Group:
    """Make people of the candidates of one picture.

    Args:
        keypoints: (K, M, 2) float32 px of the network's input. scores: (K, M) float32, descending. tags: (K, M, E)
            float32. As the codec `tag_grouping` gives them.
        options: thresholds and limits; `refine` is not applied here.

    Returns:
        Nobody when no candidate scores above `det_thr`. Candidates that are not finite count nowhere.

    Source: Newell et al., "Associative Embedding", section 3.2; Cheng et al., "HigherHRNet".
    """
    num_joints = len(scores)
    if options.keep == "first":
        first = slice(options.max_people)
        keypoints, scores, tags = keypoints[:, first], scores[:, first], tags[:, first]
    people = _People(num_joints, tags.shape[2])
    counted = (scores > options.det_thr) & np.isfinite(scores) & np.isfinite(tags).all(axis=2)
    tags = np.clip(tags, -LARGEST_TAG, LARGEST_TAG)
    for joint in ORDER_OF_17 if num_joints == 17 else range(num_joints):
        usable = np.flatnonzero(counted[joint])
        if len(usable):
            _match(people, joint, usable, scores[joint, usable], tags[joint, usable], options)
    return _limited(_gathered(people, keypoints, scores, tags), options)


def _match(
    people: _People, joint: int, usable: np.ndarray, scores: np.ndarray, tags: np.ndarray, options: Grouping
) -> None:
    """Give the candidates `usable` (R,) of a joint, with scores (R,) and tags (R, E), to people old or new."""
    accepted: dict[int, int] = {}
    if len(people.candidate):
        columns = _matched_with(people, options)
        mean_tags = people.tag_sum[columns] / people.count[columns, None]
        distance = np.linalg.norm(tags[:, None].astype(np.float64) - mean_tags[None], axis=2)  # (R, C)
        cost = 100 * (np.rint(distance) if options.rounded else distance) - scores[:, None]
        spare = max(len(usable) - len(columns), 0)
        pairs = assign(np.concatenate([cost, np.full((len(usable), spare), NO_PARTNER)], axis=1))
        accepted = {r: columns[c] for r, c in pairs if c < len(columns) and distance[r, c] < options.tag_thr}
    for r, candidate in enumerate(usable):
        if r in accepted:
            people.add(accepted[r], joint, candidate, tags[r], scores[r])
        else:
            people.start(joint, candidate, tags[r], scores[r], options.merge_equal_tags)


def _matched_with(people: _People, options: Grouping) -> np.ndarray:
    """Who can still get keypoints, in the order they were found; of more than can be matched at once the best."""
    if options.keep == "first":
        return np.arange(min(len(people.score), options.max_people))
    most = max(options.max_people, MATCHED_AT_ONCE)
    if len(people.score) <= most:
        return np.arange(len(people.score))
    return np.sort(np.argsort(-people.score, kind="stable")[:most])


def _gathered(people: _People, keypoints: np.ndarray, scores: np.ndarray, tags: np.ndarray) -> Group:
    """The candidates that people have, as arrays of their values."""
    found = people.candidate >= 0  # (P, K)
    joint = np.arange(len(scores))[None]
    candidate = np.where(found, people.candidate, 0)
    mine = np.where(found, scores[joint, candidate], 0).astype(np.float32)
    return Group(
        keypoints=np.where(found[..., None], keypoints[joint, candidate], 0).astype(np.float32),
        scores=mine,
        tags=np.where(found[..., None], tags[joint, candidate], 0).astype(np.float32),
        person_scores=mine.mean(axis=1),
    )


def _limited(group: Group, options: Grouping) -> Group:
    """The people who stay, in the order they were found."""
    if options.keep == "first":
        group = group.of(np.arange(min(len(group), options.max_people)))
    elif len(group) > options.max_people:
        group = group.of(np.sort(np.argsort(-group.person_scores, kind="stable")[: options.max_people]))
    return group.of(np.flatnonzero(group.person_scores >= options.person_thr))
