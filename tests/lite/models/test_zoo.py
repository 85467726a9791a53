"""Every row of the zoo builds and says what it is."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lite.codecs import build_codec
from lite.models.rows import ZooRow
from lite.models.zoo import ZOO, _by_name
from lite.skeletons import load_skeleton


@pytest.mark.parametrize("name", ZOO)
def test_row_builds_with_its_spec(name: str) -> None:
    row = ZOO[name]
    with torch.device("meta"):
        network = row.build()
    spec = network.spec
    assert row.name == name and spec.model == name and spec.task == row.task
    assert spec.licence == row.licence or row.family == "hap"
    assert row.source and row.licence
    build_codec(spec.codec)
    if row.task == "pose":
        num_keypoints = len(load_skeleton(spec.skeleton).keypoint_names)
        assert spec.crop is not None and spec.codec["input_hw"] == list(spec.input_hw)
        heads = [value for key, value in network.state_dict().items() if "final" in key and key.endswith("weight")]
        assert [value.shape[0] for value in heads] == [num_keypoints]
    elif row.task == "segment":
        assert spec.crop is not None and spec.frame is not None
        assert len(spec.labels) == len(spec.palette) == spec.outputs[0].shape[1]
    elif row.task == "pose-bottom-up":
        assert spec.frame.kind == "short-side" and load_skeleton(spec.skeleton).flip_indices is not None
    elif row.task == "classify":
        assert spec.frame.kind == "center-crop" and len(spec.labels) == spec.outputs[0].shape[1]
    else:
        assert spec.letterbox is not None and spec.labels[spec.person_label] == "person"


def test_two_rows_of_one_name_are_an_error() -> None:
    row = ZooRow(name="a", task="pose", family="f", size="s", licence="l", source="s", build=torch.nn.Identity)
    with pytest.raises(ValueError, match="two zoo rows are named a"):
        _by_name([row], [row])


def test_defaults_are_one_detector_and_one_pose_network() -> None:
    defaults = {row.task: row for row in ZOO.values() if row.default}
    assert {task: row.name for task, row in defaults.items()} == {"detect": "person-nano", "pose": "pose17-small"}
    assert all(row.weights for row in defaults.values())


def test_listing_imports_no_torch(root: Path) -> None:
    script = "import sys, lite.models.listing as l; l.zoo_facts(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=root)
