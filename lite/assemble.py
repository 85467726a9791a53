"""Raw outputs -> Poses in frame pixels -> Records."""

from collections.abc import Sequence

import numpy as np

from lite.structures import Crops, Frame, Poses, Record

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


def to_records(frames: Sequence[Frame], poses: Poses) -> list[Record]:
    """One record a frame, people in the order of their detections; numbers rounded, ready for JSON."""
    starts = np.searchsorted(poses.frame_of, np.arange(len(frames) + 1))
    return [_record(frame, poses, slice(*starts[n : n + 2])) for n, frame in enumerate(frames)]


def _record(frame: Frame, poses: Poses, mine: slice) -> Record:
    keypoints, scores = poses.keypoints[mine], poses.keypoint_scores[mine]
    error = None
    if not (np.isfinite(keypoints).all() and np.isfinite(scores).all()):
        # Never in a result file: NaN is not JSON. The picture is at fault or the network overflowed; say so.
        keypoints, error = keypoints[:0], "the network gave values that are not finite; try --mode float32"
    people = [
        {"keypoints": points, "keypoint_scores": point_scores, "bbox": [box], "bbox_score": score}
        for points, point_scores, box, score in zip(
            _plain(keypoints, PX_DECIMALS),
            _plain(scores, SCORE_DECIMALS),
            _plain(poses.boxes[mine], PX_DECIMALS),
            _plain(poses.scores[mine], SCORE_DECIMALS),
        )
    ]
    return Record(
        source=frame.source,
        index=frame.index,
        time_s=frame.time_s,
        size_hw=frame.size_hw,
        people=people,
        error=error,
    )


def _plain(array: np.ndarray, decimals: int) -> list:
    # In float64, or the rounded float32 would print all its digits again.
    return np.round(array.astype(np.float64), decimals).tolist()
