"""What an exported file may differ by from the eager float32 network: one table, per task and mode.

A name that ends in `_min` is a smallest agreement, any other a largest difference. Shifts and edges are px of the crop
or canvas; one heatmap cell is 4. A key a measurement does not give is a mistake of ours.

Shifts of keypoints are for crops up to `HEIGHT_PX` high and grow with higher ones, as the people in them do: peaks of
Sapiens at 1024 px are four times as wide in px as those of ViTPose at 256, and rounding moves them four times as far.

Shifts of logits, heatmaps and tags are in standard deviations of what the eager network gives for the crop.

float32 leaves room for another order of sums, nothing else. In float16 and bfloat16 the limits of medians (`_p50`) are
upper bounds: half of the results may shift by `ROUNDING` times what they shift when the network is run eagerly in the
mode, and a slack. That finds a decode in reduced precision, which is of the size of the rounding
of the network itself. (Not in int8: ranges found by calibration are others than those of the crops at hand. In the
detector's boxes in bfloat16 it finds little, because the network's own distances are as coarse.)
"""

LIMITS: dict[str, dict[str, dict[str, float]]] = {
    "pose": {
        "float32": {
            "shift_max_px": 0.05,
            "shift_p95_px": 0.02,
            "shift_p50_px": 0.005,
            "oks_min": 0.999,
            "score_shift_max": 0.002,
        },
        "float16": {
            "shift_max_px": 4.0,
            "shift_p95_px": 0.5,
            "shift_p50_px": 0.1,
            "oks_min": 0.99,
            "score_shift_max": 0.01,
        },
        "bfloat16": {
            "shift_max_px": 16.0,
            "shift_p95_px": 2.0,
            "shift_p50_px": 1.0,
            "oks_min": 0.95,
            "score_shift_max": 0.08,
        },
        "int8": {
            "shift_max_px": 256.0,  # one lost keypoint counts by what it does to the OKS of its crop
            "shift_p95_px": 8.0,
            "shift_p50_px": 1.5,
            "oks_min": 0.85,
            "score_shift_max": 0.2,
        },
    },
    "detect": {
        "float32": {"iou_min": 0.99, "edge_p50_px": 0.01, "score_shift_max": 0.005, "score_shift_p95": 0.002},
        "float16": {"iou_min": 0.98, "edge_p50_px": 0.2, "score_shift_max": 0.06, "score_shift_p95": 0.01},
        "bfloat16": {"iou_min": 0.85, "edge_p50_px": 1.5, "score_shift_max": 0.12, "score_shift_p95": 0.08},
        "int8": {"iou_min": 0.75, "edge_p50_px": 4.0, "score_shift_max": 0.25, "score_shift_p95": 0.12},
    },
    "segment": {
        "float32": {"agreement_min": 0.999, "miou_min": 0.99, "logit_shift_p95": 0.002, "logit_shift_p50": 0.001},
        "float16": {"agreement_min": 0.995, "miou_min": 0.95, "logit_shift_p95": 0.03, "logit_shift_p50": 0.01},
        "bfloat16": {"agreement_min": 0.97, "miou_min": 0.8, "logit_shift_p95": 0.2, "logit_shift_p50": 0.08},
        "int8": {"agreement_min": 0.9, "miou_min": 0.6, "logit_shift_p95": 0.6, "logit_shift_p50": 0.25},
    },
    "classify": {
        "float32": {
            "probability_shift_max": 0.001,
            "first_loss_max": 0.001,
            "sum_shift_max": 2e-5,
            "logit_shift_max": 0.01,  # two unlikely classes exchanged are about 1
            "logit_shift_p95": 0.002,
            "logit_shift_p50": 0.001,
        },
        "float16": {
            "probability_shift_max": 0.015,
            "first_loss_max": 0.015,
            "sum_shift_max": 2e-5,
            "logit_shift_max": 0.15,
            "logit_shift_p95": 0.03,
            "logit_shift_p50": 0.01,
        },
        "bfloat16": {
            "probability_shift_max": 0.1,
            "first_loss_max": 0.1,
            "sum_shift_max": 2e-5,
            "logit_shift_max": 0.8,
            "logit_shift_p95": 0.2,
            "logit_shift_p50": 0.08,
        },
        "int8": {
            "probability_shift_max": 0.3,
            "first_loss_max": 0.2,
            "sum_shift_max": 2e-5,
            "logit_shift_max": 3.0,
            "logit_shift_p95": 0.6,
            "logit_shift_p50": 0.25,
        },
    },
    "pose-bottom-up": {
        "float32": {
            "heatmap_shift_p95": 0.002,
            "heatmap_shift_p50": 0.001,
            "tag_shift_p95": 0.002,
            "tag_shift_p50": 0.001,
            "lost_max": 0.02,
            "decode_shift_p95_px": 0.05,
            "decode_score_max": 0.001,
            "decode_tag_p95": 0.001,
        },
        "float16": {
            "heatmap_shift_p95": 0.03,
            "heatmap_shift_p50": 0.01,
            "tag_shift_p95": 0.03,
            "tag_shift_p50": 0.01,
            "lost_max": 0.1,
            "decode_shift_p95_px": 0.05,
            "decode_score_max": 0.001,
            "decode_tag_p95": 0.001,
        },
        "bfloat16": {
            "heatmap_shift_p95": 0.2,
            "heatmap_shift_p50": 0.08,
            "tag_shift_p95": 0.2,
            "tag_shift_p50": 0.08,
            "lost_max": 0.35,
            "decode_shift_p95_px": 0.05,
            "decode_score_max": 0.001,
            "decode_tag_p95": 0.001,
        },
        "int8": {
            "heatmap_shift_p95": 0.6,
            "heatmap_shift_p50": 0.25,
            "tag_shift_p95": 0.6,
            "tag_shift_p50": 0.25,
            "lost_max": 0.6,
            "decode_shift_p95_px": 0.05,
            "decode_score_max": 0.001,
            "decode_tag_p95": 0.001,
        },
    },
}
# Bounded by what eager rounding does as well; name -> what is allowed beside it.
RELATIVE = {
    "shift_p50_px": 0.02,
    "edge_p50_px": 0.02,
    "logit_shift_p50": 0.001,
    "heatmap_shift_p50": 0.001,
    "tag_shift_p50": 0.001,
}
ROUNDING = 1.75
HEIGHT_PX = 256
LEAST_STABLE = 0.1  # of all keypoints must be comparable; with fewer, the comparison says nothing


def limits_of(task: str, mode: str, rounding: dict[str, float] | None, height_px: int) -> dict[str, float]:
    """The limits of a task and mode.

    Args:
        rounding: what the eager network in the mode measures against the eager float32 one; None where it was not run.
        height_px: of the crop.
    """
    larger = max(1.0, height_px / HEIGHT_PX)
    limits = {
        name: limit * larger if name.startswith("shift") and name.endswith("_px") else limit
        for name, limit in LIMITS[task][mode].items()
    }
    for name, slack in RELATIVE.items():
        if rounding is not None and name in limits and mode != "int8":
            limits[name] = min(limits[name], ROUNDING * rounding[name] + slack)
    return limits


def over(name: str, value: float, limit: float) -> bool:
    """Whether a quantity is on the wrong side of its limit."""
    return value < limit if name.endswith("_min") else value > limit
