"""The built-in networks on annotated photographs: wrong colours, crops or decoding would show as a lower AP."""

import json
from pathlib import Path

import pytest

from lite.engine.score import evaluate
from lite.evaluate.config import EvalConfig

pytest.importorskip("pycocotools")


@pytest.mark.weights
@pytest.mark.slow
def test_default_networks(shared: Path, tmp_path: Path) -> None:
    pictures = shared / "trainset/images_coco.tar"
    if not pictures.is_file():
        pytest.skip("needs the annotated photographs")
    settings = {"annotations": str(shared / "trainset/coco_keypoints_val.json"), "images": str(pictures)}
    found = {}
    for boxes in ("gt", "detector"):
        output = tmp_path / boxes
        config = EvalConfig(**settings, boxes=boxes, limit=40, output=str(output), quiet=True)
        assert evaluate(config) == 0
        found[boxes] = json.loads((output / "metrics.json").read_text())
    assert found["gt"]["keypoints"]["AP"] > 0.45
    assert found["detector"]["keypoints"]["AP"] > 0.38
    assert found["detector"]["boxes"]["recall_iou50_score30"] > 0.8
