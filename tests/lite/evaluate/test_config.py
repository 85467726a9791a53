"""`EvalConfig` refuses what cannot work, naming the key."""

from typing import get_args, get_type_hints

import pytest

from lite.errors import ConfigError
from lite.evaluate.config import DATA_SET_NAMES, PERSON_SCORES, PROTOCOLS, EvalConfig


def test_defaults() -> None:
    config = EvalConfig(annotations="a.json", images="pictures")
    assert (config.boxes, config.bbox_thr, config.vis_thr, config.oks_thr, config.limit) == ("gt", 0.3, 0.2, None, None)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"images": None}, "images"),
        ({"boxes": "ground-truth"}, "boxes"),
        ({"limit": 0}, "limit"),
        ({"oks_thr": 1.5}, "oks_thr"),
        ({"vis_thr": -0.1}, "vis_thr"),
        ({"predictions": "p.json", "model": "m"}, "predictions"),
        ({"predictions": "p.json", "annotations": None}, "annotations"),
        ({"batch_size": 0}, "batch_size"),
        ({"bbox_thr": 2.0}, "bbox_thr"),
        ({"output": ""}, "output"),
        ({"dataset": "imagenet"}, "dataset"),
        ({"protocol": "some"}, "protocol"),
        ({"person_score": "best"}, "person_score"),
        ({"max_scored": 0}, "max_scored"),
        ({"worst": -1}, "worst"),
        ({"worst": 3, "images": None, "predictions": "p.json"}, "images"),
        ({"soft_nms": True, "oks_thr": 0.0}, "oks_thr"),
    ],
)
def test_refused(changes: dict, key: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key}: expected"):
        EvalConfig(**({"annotations": "a.json", "images": "pictures"} | changes))


def test_choices_are_the_ones_there_are() -> None:
    from lite.evaluate.data_sets import DATA_SETS

    assert ("auto", *DATA_SETS) == DATA_SET_NAMES == get_args(get_type_hints(EvalConfig)["dataset"])
    assert get_args(get_type_hints(EvalConfig)["protocol"]) == PROTOCOLS
    assert get_args(get_type_hints(EvalConfig)["person_score"]) == PERSON_SCORES
