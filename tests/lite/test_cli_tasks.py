"""`hpe-lite infer` and `bench` end to end with a small saved network of every task: files, numbers, exit statuses."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import lite
from lite.checkpoints import save_network
from lite.cli import main
from lite.label_png import decode_labels
from lite.models import higher_hrnet, hrnet
from lite.models.vitpose import ViTPose, ViTPoseFeatures, pose_spec, trunk_hints
from lite.models.vitpose_trunk import TrunkSizes

SIZES = {"1.png": (90, 140), "2.jpg": (90, 140), "deep/3.png": (200, 60)}
STEMS = ("1", "2", "deep/3")
NETWORKS = ("labels", "people", "classes", "keypoints")
# Task -> further files of each picture.
FILES = {"labels": [".labels.png"], "people": [], "classes": [], "keypoints": []}


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory, golden_folder: Path) -> Iterator[dict[str, str]]:
    """Task -> checkpoint with random weights; HRNets have few modules while the tests run."""
    folder = tmp_path_factory.mktemp("networks")
    with pytest.MonkeyPatch.context() as patch:
        for module in (hrnet, higher_hrnet):
            patch.setattr(module, "UNITS", 1)
        for name, value in {"MODULES": (1, 1, 1, 1), "HEAD": (16, 32, 64, 64), "FEATURES": 64}.items():
            patch.setattr(hrnet, name, value)
        torch.manual_seed(0)
        people = higher_hrnet.HigherHRNet(8, 17)
        people.spec = higher_hrnet.bottom_up_spec("tiny-people", (128, 128), "coco17")
        with torch.no_grad():  # random maps are nearly flat: spread them, so that there are people, and not a crowd
            people.deconv_layers[0].final_layer.weight.mul_(5)
            people.init_heatmaps_head.weight.mul_(5)
        classes = hrnet.ClassificationHRNet(8, 1000)
        classes.spec = hrnet.classes_spec("tiny-classes", (64, 64), 1000)
        sizes = TrunkSizes(width=24, depth=1, num_heads=2, hidden=24, grid_hw=(4, 3))
        keypoints, trunk = ViTPose(sizes, 17, (8, 8)), ViTPoseFeatures(sizes)
        keypoints.spec = pose_spec("tiny-keypoints", (64, 48), 17, "coco17")
        keypoints.hints = trunk.hints = trunk_hints(sizes)
        trunk.spec = lite.ArtifactSpec(task="features", model="x", input_hw=(64, 48), mean=(0, 0, 0), std=(1, 1, 1))
        made = {"people": people, "classes": classes, "keypoints": keypoints, "trunk": trunk}
        for name, network in made.items():
            save_network(network.eval(), folder / f"{name}.safetensors")
        paths = {name: str(folder / f"{name}.safetensors") for name in made}
        paths["labels"] = str(golden_folder / "sapiens/segmentation/seg_tiny.pth")
        paths["detector"] = str(golden_folder / "rtmdet/nano.pth")
        yield paths


@pytest.fixture(scope="module")
def golden_folder() -> Path:
    return Path(__file__).resolve().parents[1] / "golden"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(1)
    for name, (h, w) in SIZES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        coarse = random.integers(0, 256, (h // 8, w // 8, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / name), cv2.resize(coarse, (w, h)))
    return folder


@pytest.fixture
def infer(photos: Path, tmp_path: Path) -> Callable[..., Path]:
    """`infer(*words)` runs the command on the photos and gives its output folder."""

    def run(*words: str, status: int = 0) -> Path:
        output = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        assert main(["infer", "--input", str(photos), "--output", str(output), "--quiet", *words]) == status
        return output

    return run


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def expected(*endings: str) -> list[str]:
    return sorted([*(f"{stem}{ending}" for stem in STEMS for ending in (".json", *endings)), "run.json"])


@pytest.mark.parametrize("task", NETWORKS)
def test_every_task(infer: Callable[..., Path], networks: dict[str, str], task: str) -> None:
    output = infer("--model", networks[task], "--detector", "none")
    assert files(output) == expected(".jpg", *FILES[task])
    for result, stem in zip(lite.load_results(output), STEMS):
        text = (output / f"{stem}.json").read_text(encoding="utf-8")
        json.loads(text, parse_constant=pytest.fail)
        height, width = result.size_hw
        assert result.size_hw in SIZES.values() and result.error is None
        assert cv2.imread(str(output / f"{stem}.jpg")).shape[:2] == result.size_hw
        assert result.keypoints.shape[1] == (17 if task in ("people", "keypoints") else 0)
        assert len(result.keypoints) == {"keypoints": 1, "people": len(result.keypoints)}.get(task, 0)
        assert (result.areas is not None) == (result.label_map is not None) == (task == "labels")
        assert (result.classes is not None) == (task == "classes")
        if task == "labels":
            labels, palette = decode_labels(result.label_map.read_bytes())
            assert labels.shape == (height, width) and labels.max() < len(result.label_names) == len(palette) == 28
            counted = {result.label_names[n]: int((labels == n).sum()) for n in np.unique(labels)}
            assert counted == result.areas and sum(counted.values()) == height * width
        if task == "classes":
            assert len(result.classes) == 5
            shares = [one["score"] for one in result.classes]
            assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1
    report = json.loads((output / "run.json").read_text())
    assert report["pictures"] == 3 and report["finished"] and report["failed"] == []


def test_people_are_found_and_their_maps_drawn(infer: Callable[..., Path], networks: dict[str, str]) -> None:
    output = infer("--model", networks["people"], "--draw", "heatmaps,tags", "--max-people", "7")
    assert files(output) == expected(".heatmaps.png", ".tags.png")
    results = lite.load_results(output)
    assert all(1 <= len(result.keypoints) <= 7 and np.isfinite(result.boxes).all() for result in results)
    for path in output.rglob("*.png"):
        assert cv2.imread(str(path)).size
    few = lite.load_results(infer("--model", networks["people"], "--draw", "none", "--det-thr", "0.999"))
    assert sum(len(result.keypoints) for result in few) < sum(len(result.keypoints) for result in results)


def test_several_networks(infer: Callable[..., Path], networks: dict[str, str], tmp_path: Path) -> None:
    """One flag with several words, the flag several times, and a YAML list are the same."""
    three = [networks[task] for task in ("keypoints", "labels", "classes")]
    output = infer("--model", *three, "--detector", "none")
    assert files(output) == expected(".jpg", ".labels.png")
    for result in lite.load_results(output):
        assert result.keypoints.shape == (1, 17, 2) and len(result.classes) == 5 and result.areas
    repeated = [word for path in three for word in ("--model", path)]
    (tmp_path / "run.yaml").write_text(json.dumps({"model": three, "detector": "none"}))
    for words in ([*repeated, "--detector", "none"], ["--config", str(tmp_path / "run.yaml")]):
        again = infer(*words)
        assert all((again / name).read_bytes() == (output / name).read_bytes() for name in expected(".labels.png")[:-1])
    report = json.loads((output / "run.json").read_text())
    assert set(report["networks"]) == {"pose", "segmentation", "classification", "detector"}


def test_labels_of_people(infer: Callable[..., Path], networks: dict[str, str]) -> None:
    output = infer("--model", networks["labels"], "--detector", networks["detector"], "--bbox-thr", "0.01")
    for result in lite.load_results(output):
        assert result.keypoints.shape[1] == 0 and len(result.person_areas) == len(result.boxes)
        assert lite.load_label_map(result.label_map).shape == result.size_hw and result.areas is None
    assert sum(len(result.boxes) for result in lite.load_results(output)) > 0


def test_choices_of_tasks(infer: Callable[..., Path], networks: dict[str, str], tmp_path: Path) -> None:
    once = infer("--model", networks["labels"], "--draw", "none")
    assert files(once) == expected(".labels.png")
    twice = infer("--model", networks["labels"], "--draw", "none", "--label-resize", "twice")
    maps = [lite.load_label_map(folder / "1.labels.png") for folder in (once, twice)]
    assert 0 < (maps[0] != maps[1]).mean() < 0.2
    names = [f"mine {n}" for n in range(len(lite.load_results(once)[0].label_names))]
    palette = [[n, 2 * n, 9] for n in range(28)]
    (tmp_path / "mine.json").write_text(json.dumps({"names": names, "palette": palette}))
    named = infer("--model", networks["labels"], "--labels", str(tmp_path / "mine.json"))
    (first, *_) = lite.load_results(named)
    assert set(first.areas) <= set(names) and first.label_names == tuple(names)
    assert decode_labels(first.label_map.read_bytes())[1][1] == (1, 2, 9)
    top = lite.load_results(infer("--model", networks["classes"], "--top", "2000"))
    assert all(len(result.classes) == 1000 for result in top)


@pytest.mark.parametrize("task", ["labels", "people", "classes"])
def test_an_exported_file_gives_what_the_checkpoint_gives(
    infer: Callable[..., Path], networks: dict[str, str], tmp_path: Path, task: str, capsys: pytest.CaptureFixture
) -> None:
    artifact = str(tmp_path / f"{task}.pt2")
    assert main(["export", "--checkpoint", networks[task], "--output", artifact]) == 0, capsys.readouterr().out
    eager, exported = (
        lite.load_results(infer("--model", model, "--draw", "none")) for model in (networks[task], artifact)
    )
    for one, other in zip(eager, exported):
        assert one.source == other.source
        np.testing.assert_allclose(one.keypoints, other.keypoints, atol=0.05)
        np.testing.assert_allclose(one.keypoint_scores, other.keypoint_scores, atol=1e-3)
        if task == "labels":
            maps = [lite.load_label_map(result.label_map) for result in (one, other)]
            assert (maps[0] == maps[1]).mean() > 0.999
        if task == "classes":
            for likely, same in zip(one.classes, other.classes):
                assert likely["label"] == same["label"] and likely["score"] == pytest.approx(same["score"], abs=1e-4)


def test_a_bad_picture_fails_alone(infer: Callable[..., Path], networks: dict[str, str], photos: Path) -> None:
    (photos / "bad.jpg").touch()
    try:
        output = infer("--model", networks["labels"], networks["people"], status=1)
    finally:
        (photos / "bad.jpg").unlink()
    bad, *good = sorted(lite.load_results(output), key=lambda result: "bad" not in result.source)
    assert bad.error and bad.areas is bad.label_map is bad.size_hw is None and len(bad.keypoints) == 0
    assert len(good) == 3 and all(result.error is None and result.label_map for result in good)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--model {keypoints} --draw heatmaps", "draw: heatmaps are pictures of bottom-up networks, found none"),
        ("--model {keypoints} --labels lip20", "labels: expected a segmentation network to name the classes of"),
        ("--model {labels} --labels lip20", "labels: expected a set for"),
        ("--model {labels} --labels nothing", "labels: expected one of"),
        ("--model {labels} --label-resize thrice", "label-resize"),
        ("--model {keypoints} --model {people}", "model: expected networks of different kinds, found two of one"),
        ("--model {labels} {labels}", "found two of one"),
        (
            "--model {detector}",
            "expected a network for keypoints, segmentation or classification, found one for detect",
        ),
        ("--model {trunk}", "expected a network with a head, found a bare trunk"),
        (
            "--model {people} --detector {detector}",
            "detector: tiny-people takes whole pictures; leave the detector out",
        ),
        ("--model {classes} --top 0", "top: expected at least 1, found 0"),
        ("--model {people} --det-thr 7", "det_thr: expected a number from 0 to 1, found 7"),
        ("--model {people} --keep-people worst", "worst"),
        ("--model {people} --draw dots", "draw: expected one of"),
    ],
)
def test_misuse_is_one_sentence(
    infer: Callable[..., Path], networks: dict[str, str], capsys: pytest.CaptureFixture, words: str, sentence: str
) -> None:
    output = infer(*words.format(**networks).split(), status=2)
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1 and "Traceback" not in said
    assert not list(output.rglob("*.json"))


STAGES = {
    "labels": {"resize", "forward", "label"},
    "people": {"resize", "forward", "group"},
    "classes": {"resize", "forward", "assemble"},
    "keypoints": {"detect", "crop", "forward", "assemble"},
}


@pytest.mark.parametrize("task", NETWORKS)
def test_bench(networks: dict[str, str], photos: Path, capsys: pytest.CaptureFixture, task: str) -> None:
    words = ["bench", "--input", str(photos), "--model", networks[task], "--detector", "none", "--repeat", "1"]
    assert main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["stages_s"]) == STAGES[task] | {"read", "records", "write"}
    assert (report["pictures"], report["failed"]) == (3, 0)


def test_bench_of_several_networks(networks: dict[str, str], photos: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["bench", "--input", str(photos), "--model", networks["keypoints"], networks["labels"]]
    assert main([*words, "--detector", "none", "--repeat", "1"]) == 0
    shown = capsys.readouterr().out
    assert (
        "whole run" in shown
        and "keypoints: forward" in shown
        and "labels: label" in shown
        and "tiny-keypoints and " in shown
    )


@pytest.mark.parametrize("task", [*NETWORKS, "detector"])
def test_bench_model(networks: dict[str, str], capsys: pytest.CaptureFixture, task: str) -> None:
    words = ["bench", "model", "--model", networks[task], "--batch-size", "2", "--seconds", "0", "--json"]
    assert main(words) == 0
    (batch,) = json.loads(capsys.readouterr().out)["batches"]
    assert batch["crops_per_s"] > 0 and batch["decode_share"] >= 0
