"""Raw outputs -> Poses in frame pixels -> Records."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from lite.segment import area_of
from lite.structures import Classes, Crops, Detections, Frame, Poses, Record, Segments

# Decimals kept in records: a thousandth of a pixel and of a percent, far below what any network resolves.
PX_DECIMALS, SCORE_DECIMALS = 3, 5
NOT_FINITE = "the network gave values that are not finite; try --mode float32"


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

    Args:
        frames: the frame batch.
        poses: people with keypoints.
        people: who the segments belong to, where there are no poses; where there are, these are the same people.
        segments: of whole frames or of people.
        classes: of whole frames.
        label_names, class_names: what labels and classes are called.
        unusable: positions of frames whose segments mean nothing.
    """
    who = poses if poses is not None else people
    starts = np.searchsorted(who.frame_of, np.arange(len(frames) + 1)) if who is not None else [0] * (len(frames) + 1)
    records = [_record(frame, who, slice(*starts[n : n + 2])) for n, frame in enumerate(frames)]
    for n, frame in enumerate(segments.frame_of.tolist() if segments is not None else ()):
        person = int(segments.detections[n])
        if frame in unusable:
            records[frame] = replace(records[frame], people=[], error=NOT_FINITE)
        elif person < 0:
            records[frame] = replace(records[frame], areas=area_of(segments.labels[n], label_names))
        elif records[frame].people:
            records[frame].people[person - int(starts[frame])]["areas"] = area_of(segments.labels[n], label_names)
    for n, frame in enumerate(classes.frame_of.tolist() if classes is not None else ()):
        likely = zip(classes.labels[n].tolist(), _plain(classes.scores[n], SCORE_DECIMALS))
        records[frame] = replace(records[frame], classes=[_class(*one, class_names) for one in likely])
    return records


def _class(label: int, score: float, names: Sequence[str]) -> dict[str, object]:
    return {"label": label, "name": names[label] if label < len(names) else str(label), "score": score}


def _record(frame: Frame, people: Poses | Detections | None, mine: slice) -> Record:
    error, described = None, []
    if people is not None:
        columns = {
            "bbox": [[box] for box in _plain(people.boxes[mine], PX_DECIMALS)],
            "bbox_score": _plain(people.scores[mine], SCORE_DECIMALS),
        }
        if isinstance(people, Poses):
            keypoints, scores = people.keypoints[mine], people.keypoint_scores[mine]
            points = {"keypoints": _plain(keypoints, PX_DECIMALS), "keypoint_scores": _plain(scores, SCORE_DECIMALS)}
            columns = points | columns
            if not (np.isfinite(keypoints).all() and np.isfinite(scores).all()):
                # Never in a result file: NaN is not JSON. The picture is at fault or the network overflowed; say so.
                error = NOT_FINITE
        if error is None:
            described = [dict(zip(columns, values)) for values in zip(*columns.values())]
    return Record(
        source=frame.source,
        index=frame.index,
        time_s=frame.time_s,
        size_hw=frame.size_hw,
        people=described,
        error=error,
    )


def _plain(array: np.ndarray, decimals: int) -> list:
    # In float64, or the rounded float32 would print all its digits again.
    return np.round(array.astype(np.float64), decimals).tolist()
