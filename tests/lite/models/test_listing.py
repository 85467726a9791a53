"""The facts behind `hpe-lite models` and `hpe-lite inspect`, and their printed forms."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from lite.artifact import FrameRule, sha256_of, write_spec
from lite.checkpoints import load_network
from lite.config import InspectConfig, ModelsConfig
from lite.errors import ArtifactError
from lite.models.listing import file_facts, fitting_rows, inspect, list_models, network_facts, zoo_facts
from lite.models.zoo import ZOO


def test_zoo_facts(tmp_path: Path) -> None:
    (tmp_path / ZOO["sapiens-1b-coco17"].weights).touch()
    rows = {row["name"]: row for row in zoo_facts(tmp_path)}
    assert list(rows) == list(ZOO)
    assert rows["sapiens-1b-coco17"]["present"] and not rows["sapiens-2b-coco17"]["present"]
    assert rows["person-nano"]["default"] and not rows["sapiens-1b-coco17"]["default"]
    assert rows["sapiens-1b-coco17"]["licence"] == "CC-BY-NC-4.0"
    assert {"name", "task", "size", "licence", "default", "present"} <= set(rows["person-nano"])


def test_models_prints_every_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert list_models(ModelsConfig(json=True)) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == list(ZOO)
    assert list_models(ModelsConfig()) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["name", *ZOO]


def test_the_place_of_a_download_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["name"]: row for row in zoo_facts()}
    assert rows["sapiens-1b-coco17"]["place"]["repository"] == "noahcao/sapiens-pose-coco"
    assert rows["rtmdet-m-person"]["place"]["sha256"] == "235e8209" and rows["person-nano"]["place"] is None
    assert rows["vitpose-b-coco17"]["place"]["accuracy"]["AP"] == 75.7
    list_models(ModelsConfig())
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["rtmdet-m-person"].split()[-2:] == ["-", "download.openmmlab.com"]
    assert "CC-BY-NC-4.0" in lines["sapiens-2b-coco17"] and "AP 82.2" in lines["sapiens-2b-coco17"]
    assert lines["hap-b-coco17"].rstrip().endswith("-")


def test_inspect_names_every_row_that_fits(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert file_facts("person-nano")["fits"] == ["rtmdet-nano-person", "person-nano"]
    assert file_facts(golden / "sapiens/networks/pose_tiny.pth")["fits"] == []
    with torch.device("meta"):
        both = fitting_rows(ZOO["vitpose-s-coco17"].build())
        large = fitting_rows(ZOO["hap-b-384x288-mpii16"].build())
    assert "vitpose-s-coco17" in both and "vitpose-s-simple-coco17" not in both
    assert large and all("384x288" in name for name in large)
    inspect(InspectConfig(file="person-nano"))
    assert "fits: rtmdet-nano-person, person-nano\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sapiens-0.3b-seg28", {"labels": 28, "task": "segment"}),
        ("higherhrnet-w32-coco17", {"keypoints": 17, "head": "init_heatmaps_head", "task": "pose-bottom-up"}),
        ("hrnet-w32-imagenet1000", {"labels": 1000, "head": "ClassificationHead", "task": "classify"}),
    ],
)
def test_network_facts_of_every_task(name: str, expected: dict[str, object]) -> None:
    with torch.device("meta"):
        facts = network_facts(ZOO[name].build())
    assert expected.items() <= facts.items() and name in facts["fits"]
    if "labels" in expected:
        assert facts["label_names"].endswith(f" and {facts['labels'] - 8} more")


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (FrameRule(kind="stretch"), "its aspect lost"),
        (FrameRule(kind="center-crop", short_side=256), "short side to 256 px, then the middle"),
        (FrameRule(kind="short-side", multiple=64), "short side to 48 px, the long side up to a multiple of 64"),
    ],
)
def test_a_segmenting_artifact_in_words(
    frame: FrameRule, expected: str, tmp_path: Path, golden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = load_network(golden / "sapiens/networks/pose_tiny.pth").spec
    artifact = tmp_path / "x.pt2"
    artifact.write_bytes(b"program")
    spec = dataclasses.replace(
        spec,
        task="segment",
        format="pt2",
        frame=frame,
        labels=("background", "left foot", "right foot"),
        palette=((0, 0, 0), (1, 2, 3), (4, 5, 6)),
        label_swaps=((1, 2),),
        skeleton=None,
    )
    write_spec(artifact, spec)
    inspect(InspectConfig(file=str(artifact)))
    out = capsys.readouterr().out
    assert expected in out and "background, left foot, right foot" in out and "left foot/right foot" in out


def test_inspect_says_meta_shortly(golden: Path, tmp_path: Path) -> None:
    """Lists that hold one another twice, 40 levels deep, are a small file and an endless text."""
    nested: list = []
    for _ in range(40):
        nested = [nested, nested]
    state = torch.load(golden / "sapiens/networks/pose_tiny.pth", weights_only=True)
    path = tmp_path / "x.pth"
    torch.save({"state_dict": state.get("state_dict", state), "meta": {"nested": nested}}, path)
    assert len(file_facts(path)["meta"]["nested"]) < 300


def test_inspect_a_training_checkpoint(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = golden / "sapiens/networks/pose_training_state.pth"
    assert inspect(InspectConfig(file=str(path), json=True)) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["sha256"] == sha256_of(path) and facts["bytes"] == path.stat().st_size
    assert (facts["family"], facts["keypoints"], facts["input_hw"]) == ("sapiens", 17, [32, 32])
    assert facts["size"] == "custom (width 16, depth 2, 2 heads)" and facts["head"] == "SapiensHeatmapHead"
    assert facts["parameters"] == 20217 and facts["dtypes"] == {"float32": 37}
    assert facts["meta"]["epoch"] == 2 and facts["meta"]["dataset_meta"].endswith("characters)")
    assert facts["problems"] == []
    assert inspect(InspectConfig(file=str(path))) == 0
    assert "  epoch: 2\n" in capsys.readouterr().out


def test_inspect_lists_key_problems(tmp_path: Path, golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = dict(load_network(golden / "sapiens/networks/pose_tiny.pth").state_dict())
    del state["backbone.ln1.bias"]
    torch.save(state, tmp_path / "x.pth")
    assert inspect(InspectConfig(file=str(tmp_path / "x.pth"))) == 1
    out = capsys.readouterr().out
    assert "1 missing: backbone.ln1.bias" in out and "family: sapiens" in out


def test_inspect_an_artifact(tmp_path: Path, golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = load_network(golden / "sapiens/networks/pose_tiny.pth").spec
    (tmp_path / "x.onnx").write_bytes(b"program")
    with pytest.raises(ArtifactError, match="expected its description"):
        file_facts(tmp_path / "x.onnx")
    artifact = tmp_path / "x.pt2"
    artifact.write_bytes(b"program")
    report = {"passed": True, "shift_max_px": 0.01, "limits": {"shift_max_px": 0.05}, "compared": 7, "of": 9}
    (tmp_path / "x.bin").write_bytes(b"weights")
    spec = dataclasses.replace(
        spec, format="pt2", sha256=sha256_of(artifact), companions={"x.bin": sha256_of(tmp_path / "x.bin")}
    )
    write_spec(artifact, dataclasses.replace(spec, check=report))
    facts = file_facts(artifact)
    assert facts["kind"] == "artifact" and facts["spec"]["check"] == report and facts["problems"] == []
    assert inspect(InspectConfig(file=str(artifact))) == 0
    out = capsys.readouterr().out
    assert "sapiens-custom, pose" in out and "64x48 px" in out and "keypoints (N, 17, 2) float32 crop px" in out
    assert "compared 7 of 9" in out and "shift_max_px     0.01 (limit 0.05)" in out and "problems: none" in out
    write_spec(artifact, dataclasses.replace(spec, check={"passed": False, "limits": [], "shift_max_px": "1"}))
    assert inspect(InspectConfig(file=str(artifact))) == 1
    assert "did not pass the comparison" in capsys.readouterr().out
    write_spec(artifact, spec)
    assert file_facts(artifact)["problems"] == ["the file was never compared with the eager network"]
    artifact.write_bytes(b"changed")
    (tmp_path / "x.bin").write_bytes(b"changed")
    problems = file_facts(artifact)["problems"]
    assert "has changed since it was exported" in problems[0] and "x.bin has changed" in problems[1]
    (tmp_path / "x.bin").unlink()
    assert "x.bin is not beside it" in file_facts(artifact)["problems"][1]


def test_inspect_the_default_by_name() -> None:
    facts = file_facts("person-nano")
    assert facts["family"] == "rtmdet" and facts["problems"] == [] and facts["labels"] == 1
