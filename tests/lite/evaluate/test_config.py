"""`EvalConfig` refuses what cannot work, naming the key."""

import pytest

from lite.errors import ConfigError
from lite.evaluate.config import EvalConfig


def test_defaults() -> None:
    config = EvalConfig(annotations="a.json", images="pictures")
    assert (config.boxes, config.bbox_thr, config.vis_thr, config.oks_thr, config.limit) == ("gt", 0.3, 0.2, 0.9, None)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"images": None}, "images"),
        ({"boxes": "ground-truth"}, "boxes"),
        ({"limit": 0}, "limit"),
        ({"oks_thr": 1.5}, "oks_thr"),
        ({"vis_thr": -0.1}, "vis_thr"),
        ({"predictions": "p.json", "model": "m"}, "predictions"),
        ({"batch_size": 0}, "batch_size"),
        ({"bbox_thr": 2.0}, "bbox_thr"),
        ({"output": ""}, "output"),
    ],
)
def test_refused(changes: dict, key: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key}: expected"):
        EvalConfig(**({"annotations": "a.json", "images": "pictures"} | changes))
