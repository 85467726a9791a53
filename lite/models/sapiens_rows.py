"""The rows of Sapiens networks in the zoo. Importing this loads no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lite.models.rows import Task, ZooRow, lazily

if TYPE_CHECKING:
    from torch import nn

_SAPIENS_17 = "huggingface.co/noahcao/sapiens-pose-coco"
_SAPIENS_308 = "huggingface.co/facebook/sapiens"
# (size, skeleton) -> file as published, source, accuracy with detector boxes and flip test
_SAPIENS = {
    ("0.3b", "coco17"): ("coco_best_coco_AP_796", _SAPIENS_17, {"AP": 79.6, "AR": 83.6}),
    ("0.6b", "coco17"): ("coco_best_coco_AP_812", _SAPIENS_17, {"AP": 81.2, "AR": 84.9}),
    ("1b", "coco17"): ("coco_best_coco_AP_821", _SAPIENS_17, {"AP": 82.1, "AR": 85.9}),
    ("2b", "coco17"): ("coco_best_coco_AP_822", _SAPIENS_17, {"AP": 82.2, "AR": 86.0}),
    ("0.3b", "wholebody133"): ("coco_wholebody_best_coco_wholebody_AP_620", _SAPIENS_17, {"AP": 62.0, "AR": 69.4}),
    ("0.6b", "wholebody133"): ("coco_wholebody_best_coco_wholebody_AP_695", _SAPIENS_17, {"AP": 69.5, "AR": 76.3}),
    ("1b", "wholebody133"): ("coco_wholebody_best_coco_wholebody_AP_727", _SAPIENS_17, {"AP": 72.7, "AR": 79.2}),
    ("2b", "wholebody133"): ("coco_wholebody_best_coco_wholebody_AP_745", _SAPIENS_17, {"AP": 74.4, "AR": 81.0}),
    ("0.3b", "goliath308"): ("goliath_best_goliath_AP_573", _SAPIENS_308, {"AP": 57.3}),
    ("0.6b", "goliath308"): ("goliath_best_goliath_AP_609", _SAPIENS_308, {"AP": 60.9}),
    ("1b", "goliath308"): ("goliath_best_goliath_AP_639", _SAPIENS_308, {"AP": 63.9}),
    ("2b", "goliath308"): (None, "no file of this size is published", {}),
}

# (size, label set) -> end of the name, file as published, source, accuracy on the set's own test pictures
_NO_FILE = "no file of this network is published"
_SEGMENTERS = {
    ("0.3b", "goliath28"): ("seg28", "goliath_best_goliath_mIoU_7673_epoch_194", _SAPIENS_308, {"mIoU": 76.73}),
    ("0.6b", "goliath28"): ("seg28", "goliath_best_goliath_mIoU_7777_epoch_178", _SAPIENS_308, {"mIoU": 77.77}),
    ("1b", "goliath28"): ("seg28", "goliath_best_goliath_mIoU_7994_epoch_151", _SAPIENS_308, {"mIoU": 79.94}),
    ("2b", "goliath28"): ("seg28", None, _NO_FILE, {}),
    ("1b", "face19"): ("face19", None, _NO_FILE, {}),
    **{(size, "lip20"): ("lip20", None, _NO_FILE, {}) for size in ("0.3b", "0.6b", "1b", "2b")},
    **{(size, "cihp20"): ("cihp20", None, _NO_FILE, {}) for size in ("0.3b", "0.6b", "1b", "2b")},
}


def _row(
    task: Task,
    size: str,
    ending: str,
    file: str | None,
    source: str,
    accuracy: dict[str, float],
    build: Callable[[], nn.Module],
) -> ZooRow:
    return ZooRow(
        name=f"sapiens-{size}-{ending}",
        task=task,
        family="sapiens",
        size=size,
        licence="CC-BY-NC-4.0",
        source=source,
        weights=f"sapiens_{size}_{file}.pth" if file else None,
        accuracy=accuracy,
        build=build,
    )


def _sapiens_rows() -> list[ZooRow]:
    return [
        _row("pose", size, skeleton, *published, lazily("lite.models.sapiens:sapiens", size, skeleton))
        for (size, skeleton), published in _SAPIENS.items()
    ]


def _segmenter_rows() -> list[ZooRow]:
    return [
        _row("segment", size, *named, lazily("lite.models.sapiens_seg:sapiens_segmenter", size, label_set))
        for (size, label_set), named in _SEGMENTERS.items()
    ]


ZOO_ROWS = [*_sapiens_rows(), *_segmenter_rows()]
