"""Raw outputs -> Poses in frame pixels -> Records."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from lite.segment import area_of
from lite.structures import Classes, Crops, Detections, Frame, Poses, Record, Segments

# Decimals kept in records: a thousandth of a pixel and of a percent, far below what any network resolves.
PX_DECIMALS, SCORE_DECIMALS = 3, 5


def assemble(raw: dict[str, np.ndarray], crops: Crops) -> Poses:
    """Move the keypoints of N crops to their frames.

    Args:
        raw: `keypoints` (N, K, 2) px of the crop and `scores` (N, K).
        crops: where they were cut from.
    """
    keypoints = np.asarray(raw["keypoints"], np.float32)
    turn, shift = crops.to_frame[:, :, :2], crops.to_frame[:, :, 2]
    moved = np.einsum("nij,nkj->nki", turn, keypoints) + shift[:, None]  # (N, K, 2)
    return Poses(
        keypoints=moved.astype(np.float32),
        keypoint_scores=np.asarray(raw["scores"], np.float32),
        boxes=crops.detections.boxes,
        scores=crops.detections.scores,
        frame_of=crops.detections.frame_of,
    )


def join(parts: Sequence[Poses]) -> Poses:
    """Poses of consecutive parts of one frame batch as one; at least one part, which may be empty."""
    names = ("keypoints", "keypoint_scores", "boxes", "scores", "frame_of")
    return Poses(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def to_records(
    frames: Sequence[Frame],
    poses: Poses | None = None,
    *,
    people: Detections | None = None,
    segments: Segments | None = None,
    classes: Classes | None = None,
    label_names: Sequence[str] = (),
    class_names: Sequence[str] = (),
    unusable: Collection[int] = (),
) -> list[Record]:
    """One record a frame, people in the order of their detections; numbers rounded, ready for JSON.

    Where a network gave values that are not finite for a frame, the record has an error and nothing of that network:
    no people, no areas or no classes. What the other networks found in the frame stays.

    Args:
        frames: the frame batch.
        poses: people with keypoints.
        people: who the segments belong to, where there are no poses; where there are, these are the same people.
        segments: of whole frames or of people.
        classes: of whole frames, one a frame.
        label_names, class_names: what labels and classes are called.
        unusable: positions of frames whose segments mean nothing.
    """
    who = poses if poses is not None else people
    starts = np.searchsorted(who.frame_of, np.arange(len(frames) + 1)) if who is not None else [0] * (len(frames) + 1)
    records = []
    for n, frame in enumerate(frames):
        mine = slice(*starts[n : n + 2])
        wrong = (
            ["pose"] if poses is not None and not _finite(poses.keypoints[mine], poses.keypoint_scores[mine]) else []
        )
        wrong += ["segmentation"] if n in unusable else []
        wrong += ["classification"] if classes is not None and not _finite(classes.scores[n]) else []
        record = Record(
            source=frame.source,
            index=frame.index,
            time_s=frame.time_s,
            size_hw=frame.size_hw,
            people=[] if who is None or "pose" in wrong else _people(who, mine),
            classes=None if classes is None or "classification" in wrong else _classes(classes, n, class_names),
            error=not_finite(wrong) if wrong else None,
        )
        records.append(record)
    for n, frame in enumerate(segments.frame_of.tolist() if segments is not None else ()):
        person = int(segments.detections[n])
        if frame in unusable:
            continue
        if person < 0:
            records[frame] = replace(records[frame], areas=area_of(segments.labels[n], label_names))
        elif records[frame].people:
            records[frame].people[person - int(starts[frame])]["areas"] = area_of(segments.labels[n], label_names)
    return records


def not_finite(networks: Sequence[str]) -> str:
    """The error of a frame that these networks gave values for that are not finite: never in a file, NaN is no JSON."""
    named = " and ".join(networks)
    return f"the {named} network{'s' * (len(networks) > 1)} gave values that are not finite; try --mode float32"


def _people(who: Poses | Detections, mine: slice) -> list[dict[str, object]]:
    columns = {
        "bbox": [[box] for box in _plain(who.boxes[mine], PX_DECIMALS)],
        "bbox_score": _plain(who.scores[mine], SCORE_DECIMALS),
    }
    if isinstance(who, Poses):
        points = {
            "keypoints": _plain(who.keypoints[mine], PX_DECIMALS),
            "keypoint_scores": _plain(who.keypoint_scores[mine], SCORE_DECIMALS),
        }
        columns = points | columns
    return [dict(zip(columns, values)) for values in zip(*columns.values())]


def _classes(classes: Classes, n: int, names: Sequence[str]) -> list[dict[str, object]]:
    likely = zip(classes.labels[n].tolist(), _plain(classes.scores[n], SCORE_DECIMALS))
    return [
        {"label": label, "name": names[label] if label < len(names) else str(label), "score": score}
        for label, score in likely
    ]


def _finite(*arrays: np.ndarray) -> bool:
    return all(np.isfinite(array).all() for array in arrays)


def _plain(array: np.ndarray, decimals: int) -> list:
    # In float64, or the rounded float32 would print all its digits again.
    return np.round(array.astype(np.float64), decimals).tolist()
