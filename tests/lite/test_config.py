"""Settings are checked where they are made, and the message names the key."""

import pytest

from lite.config import InferConfig, ModelsConfig
from lite.errors import ConfigError


def test_one_or_several_inputs():
    assert InferConfig(input="a").inputs == ["a"]
    assert InferConfig(input=["a", "b"]).inputs == ["a", "b"]


@pytest.mark.parametrize(
    ("draw", "parts"), [("none", set()), ("skeleton", {"skeleton"}), ("points,boxes", {"points", "boxes"})]
)
def test_what_is_drawn(draw, parts):
    assert InferConfig(input="a", draw=draw).parts == parts


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("input", []),
        ("input", ""),
        ("output", ""),
        ("mode", "fp8"),
        ("device", ""),
        ("batch_size", 0),
        ("frame_batch", 0),
        ("threads", 0),
        ("threads", 100_000),
        ("radius", 10_001),
        ("thickness", 40_000),
        ("kpt_thr", 1.5),
        ("bbox_thr", -0.1),
        ("nms_thr", float("nan")),
        ("max_people", 0),
        ("radius", 0),
        ("thickness", 0),
        ("draw", "skeletons"),
        ("draw", "points,dots"),
        ("format", "xml"),
        ("max_pixels", 0),
    ],
)
def test_a_wrong_value_is_named(key, value):
    with pytest.raises(ConfigError, match=rf"^{key}: expected .* found"):
        InferConfig(**{"input": "a", key: value})


def test_detector_settings_that_exclude_each_other():
    with pytest.raises(ConfigError, match="det_checkpoint: expected the weights that go with det_config"):
        InferConfig(input="a", det_config="x.py")
    with pytest.raises(ConfigError, match="found both"):
        InferConfig(input="a", detector="person-nano", det_checkpoint="x.pth")
    assert InferConfig(input="a", det_config="x.py", det_checkpoint="x.pth").det_config == "x.py"


@pytest.mark.parametrize("place", ["nowhere", "file"])
def test_checkpoints_must_be_a_folder(tmp_path, place):
    (tmp_path / "file").touch()
    for kind in (InferConfig, ModelsConfig):
        fields = {"input": "photos"} if kind is InferConfig else {}
        assert kind(**fields, checkpoints=str(tmp_path)).checkpoints == str(tmp_path)
        with pytest.raises(ConfigError, match="checkpoints: expected a folder"):
            kind(**fields, checkpoints=str(tmp_path / place))
