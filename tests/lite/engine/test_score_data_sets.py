"""`hpe-lite eval` on samples of every data set, by small networks with random weights: the formats, and the numbers.

The numbers are recomputed from the written results by pycocotools alone, or by hand for PCKh.
"""

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lite.engine import score
from lite.engine.pipeline import Pipeline
from lite.errors import AnnotationError, ConfigError
from lite.evaluate.config import EvalConfig
from lite.skeletons import load_skeleton
from lite.structures import Record

pytest.importorskip("pycocotools")
INPUT_HW = (64, 48)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """`tiny(skeleton)`: a saved network of that skeleton with random weights."""
    import torch

    from lite.artifact import ArtifactSpec, CropRule
    from lite.checkpoints import save_network
    from lite.models.vitpose import ViTPose, pose_spec, trunk_hints
    from lite.models.vitpose_trunk import TrunkSizes

    folder = tmp_path_factory.mktemp("networks")

    def make(skeleton: str) -> str:
        path = folder / f"{skeleton}.safetensors"
        if not path.is_file():
            torch.manual_seed(0)
            sizes = TrunkSizes(width=24, depth=1, num_heads=2, hidden=24, grid_hw=(4, 3))
            keypoints = load_skeleton(skeleton).num_keypoints
            network = ViTPose(sizes, keypoints, (8, 8))
            spec: ArtifactSpec = pose_spec(f"tiny-{skeleton}", INPUT_HW, keypoints, None)
            crop = CropRule(square=skeleton == "mpii16")
            network.spec, network.hints = replace(spec, skeleton=skeleton, crop=crop), trunk_hints(sizes)
            save_network(network.eval(), path)
        return str(path)

    return make


def evaluate(output: Path, status: int = 0, **settings: object) -> tuple[dict, object]:
    """Metrics and results of a run."""
    config = EvalConfig(output=str(output), device="cpu", mode="float32", threads=1, quiet=True, **settings)
    assert score.evaluate(config) == status
    return json.loads((output / "metrics.json").read_text()), json.loads((output / "results.json").read_text())


def by_pycocotools(annotations: dict, entries: list[dict], skeleton: str, image_ids: list[int] | None = None) -> list:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = annotations
        truth.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(entries) if entries else COCO(), "keypoints")
        evaluator.params.kpt_oks_sigmas = np.array(load_skeleton(skeleton).oks_sigmas)
        if image_ids is not None:
            evaluator.params.imgIds = image_ids
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats.tolist()


def sample(shared: Path, name: str) -> dict[str, str]:
    folder = shared / "data/keypoints" / name
    return {"annotations": str(folder / f"test_{name}.json"), "images": str(folder)}


@pytest.mark.parametrize(
    ("name", "skeleton"), [("coco", "coco17"), ("ochuman", "coco17"), ("aic", "aic14"), ("crowdpose", "crowdpose14")]
)
def test_numbers_are_those_of_pycocotools(
    shared: Path, tmp_path: Path, tiny: Callable[[str], str], name: str, skeleton: str
) -> None:
    """Results as the server takes them: truth moved towards the network's answer, so that the numbers are not 0."""
    settings = sample(shared, name)
    metrics, entries = evaluate(tmp_path / "first", model=tiny(skeleton), **settings)
    assert metrics["data_set"] == name
    assert metrics["predicted_people"] == len(entries) > 2
    assert all(len(entry["keypoints"]) == 3 * load_skeleton(skeleton).num_keypoints for entry in entries)
    annotations = json.loads(Path(settings["annotations"]).read_text())
    for annotation in annotations["annotations"]:
        if name in ("aic", "crowdpose"):
            annotation["area"] = 0.53 * annotation["bbox"][2] * annotation["bbox"][3]
        annotation.setdefault("iscrowd", 0)
    assert evaluated(metrics, annotations, entries, skeleton) > 0
    rng, sigmas = np.random.default_rng(0), np.array(load_skeleton(skeleton).oks_sigmas)[:, None]
    near = []
    for annotation in annotations["annotations"]:
        points = np.array(annotation["keypoints"], float).reshape(-1, 3)
        points[:, :2] += rng.normal(0, 1.0, points[:, :2].shape) * sigmas * annotation["area"] ** 0.5
        entry = {"image_id": annotation["image_id"], "category_id": 1, "keypoints": points.ravel().tolist()}
        near.append(entry | {"score": float(rng.uniform(0.3, 1))})
    (tmp_path / "near.json").write_text(json.dumps(near))
    metrics, _ = evaluate(
        tmp_path / "second", predictions=str(tmp_path / "near.json"), annotations=settings["annotations"]
    )
    assert metrics["keypoints"]["AP"] > 0.2
    assert evaluated(metrics, annotations, near, skeleton) > 0


def evaluated(metrics: dict, annotations: dict, entries: list[dict], skeleton: str) -> int:
    """Compare all numbers; how many were compared."""
    expected = by_pycocotools(annotations, entries, skeleton)
    found = metrics["keypoints"]
    if metrics["data_set"] != "crowdpose":
        np.testing.assert_allclose(list(found.values()), expected, atol=1e-9)
        return len(found)
    six = [expected[n] for n in (0, 1, 2, 5, 6, 7)]
    names = ("AP", "AP .5", "AP .75", "AR", "AR .5", "AR .75")
    np.testing.assert_allclose([found[name] for name in names], six, atol=1e-9)
    medium = [image["id"] for image in annotations["images"] if 0.2 <= image["crowdIndex"] < 0.8]
    assert found["AP(M)"] == pytest.approx(by_pycocotools(annotations, entries, skeleton, medium)[0], abs=1e-9)
    assert (found["AP(E)"], found["AP(H)"]) == (-1.0, -1.0)
    return 7


def test_mpii(shared: Path, tmp_path: Path, tiny: Callable[[str], str]) -> None:
    """Crops are the original's squares; the results are 1-based and come back as they were."""
    settings = sample(shared, "mpii")
    heads = shared / "reference/vitpose/golden/eval/mpii/mpii_gt_val.mat"
    metrics, results = evaluate(tmp_path / "out", model=tiny("mpii16"), heads=str(heads), **settings, worst=2)
    assert (metrics["data_set"], metrics["predicted_people"], len(results["preds"])) == ("mpii", 5, 5)
    assert set(metrics["keypoints"]) >= {"Head", "PCKh", "PCKh@0.1"}
    # Every decoded point lies in the square of 1.25 times the annotated scale, as `test_mode_db` has it.
    expected = json.loads(heads.with_name("expected.json").read_text())["test_mode_db"]
    for row, person in zip(expected, np.array(results["preds"]) - 1):
        reach = np.abs(person - row["center"]).max(axis=0) / (100 * np.array(row["scale"]))
        assert (reach <= 1.05).all()
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps(results))
    again, _ = evaluate(
        tmp_path / "again", predictions=str(kept), annotations=settings["annotations"], heads=str(heads)
    )
    assert again["keypoints"] == metrics["keypoints"]
    truth = json.loads(Path(settings["annotations"]).read_text())
    (tmp_path / "exact.json").write_text(json.dumps({"preds": [person["joints"] for person in truth]}))
    exact, _ = evaluate(
        tmp_path / "exact",
        predictions=str(tmp_path / "exact.json"),
        annotations=settings["annotations"],
        heads=str(heads),
    )
    assert exact["keypoints"]["PCKh"] == 100.0
    assert [p["measure"] for p in metrics["worst"]] == ["PCKh", "PCKh"]
    limited, _ = evaluate(tmp_path / "limited", model=tiny("mpii16"), heads=str(heads), **settings, limit=2)
    assert limited["pictures"] == limited["predicted_people"] == 2


def test_boxes_of_a_file(shared: Path, tmp_path: Path, tiny: Callable[[str], str]) -> None:
    settings = sample(shared, "crowdpose")
    boxes = shared / "data/keypoints/crowdpose/test_crowdpose_det_AP_40.json"
    metrics, entries = evaluate(tmp_path / "out", model=tiny("crowdpose14"), boxes=str(boxes), **settings)
    assert metrics["boxes"]["recall_people_above_48px"] > 0
    assert metrics["predicted_people"] == len(entries) > 0


def test_whole_body_and_308(shared: Path, tmp_path: Path, tiny: Callable[[str], str]) -> None:
    folder = shared / "data/keypoints/coco"
    whole = {"annotations": str(folder / "test_coco_wholebody.json"), "images": str(folder)}
    metrics, entries = evaluate(tmp_path / "133", model=tiny("wholebody133"), **whole, limit=2)
    assert (metrics["data_set"], list(metrics["parts"])[:3]) == ("wholebody", ["body", "foot", "face"])
    assert len(entries[0]["face_kpts"]) == 204
    content = json.loads(Path(whole["annotations"]).read_text())
    for annotation in content["annotations"]:
        body = np.array(annotation.pop("keypoints")).reshape(17, 3)
        annotation["goliath_wholebody_kpts"] = np.tile(body, (19, 1))[:308].ravel().tolist()
    path = tmp_path / "goliath.json"
    path.write_text(json.dumps(content))
    metrics, entries = evaluate(
        tmp_path / "308", annotations=str(path), images=str(folder), model=tiny("goliath308"), limit=2
    )
    assert metrics["data_set"] == "goliath308"
    assert set(metrics["parts"]) == {"body", "foot", "face", "righthand", "lefthand", "extra"}
    assert len(entries[0]["keypoints"]) == 924


def test_other_skeletons_are_refused(shared: Path, tmp_path: Path, tiny: Callable[[str], str]) -> None:
    with pytest.raises(AnnotationError, match="fit"):
        evaluate(tmp_path, model=tiny("coco17"), **sample(shared, "aic"))
    with pytest.raises(AnnotationError, match="136 keypoints"):
        evaluate(tmp_path, model=tiny("coco17"), **sample(shared, "halpe"))


class FakeBottomUp:
    """Finds the people of two pictures by itself: one where two are annotated, one where nobody is."""

    person = None

    def __init__(self, keypoints: np.ndarray) -> None:
        from types import SimpleNamespace

        from lite.artifact import ArtifactSpec

        spec = ArtifactSpec(
            task="pose-bottom-up", model="fake", input_hw=(64, 64), mean=(0, 0, 0), std=(1, 1, 1), skeleton="coco17"
        )
        self.pose = SimpleNamespace(spec=spec)
        self.keypoints = keypoints

    def __call__(self, frames: list) -> list[Record]:
        person = {"keypoints": self.keypoints.tolist(), "keypoint_scores": [0.1] * 17, "bbox_score": 0.9}
        person["bbox"] = [[*self.keypoints.min(axis=0).tolist(), *self.keypoints.max(axis=0).tolist()]]
        twice = [person, person | {"bbox_score": 0.4}]
        return [Record(source=f.source, size_hw=f.size_hw, people=[] if "empty" in f.source else twice) for f in frames]

    def describe(self) -> list[str]:
        return ["fake"]

    def __enter__(self) -> "FakeBottomUp":
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def bottom_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Settings of an evaluation in which one of three annotated people is found, twice, in two pictures."""
    import cv2

    keypoints = np.column_stack([np.linspace(10, 80, 17), np.linspace(10, 110, 17)])
    images, annotations = [], []
    for number, name in enumerate(("one.png", "empty.png", "nobody.png"), start=1):
        cv2.imwrite(str(tmp_path / name), np.full((120, 90, 3), 99, np.uint8))
        images.append({"id": number, "file_name": name})
        if name != "nobody.png":
            triples = np.column_stack([keypoints, np.full(17, 2)]).ravel().tolist()
            box = {"bbox": [10, 10, 70, 100], "area": 7000.0, "iscrowd": 0, "num_keypoints": 17}
            annotations.append({"id": number, "image_id": number, "category_id": 1, "keypoints": triples} | box)
    (tmp_path / "truth.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    monkeypatch.setattr(score, "open_pipeline", lambda config: FakeBottomUp(keypoints))
    return {"annotations": str(tmp_path / "truth.json"), "images": str(tmp_path)}


def test_a_network_without_boxes(tmp_path: Path, bottom_up: dict[str, str]) -> None:
    """Its own person scores count, and nobody is suppressed."""
    metrics, entries = evaluate(tmp_path / "out", **bottom_up)
    assert [entry["score"] for entry in entries] == pytest.approx([0.9, 0.4, 0.9, 0.4])
    assert "boxes" not in metrics
    assert metrics["keypoints"]["AR"] == pytest.approx(0.5)
    one, entries = evaluate(tmp_path / "out", **bottom_up, person_score="keypoints", oks_thr=0.9, vis_thr=0.05)
    assert [entry["score"] for entry in entries] == pytest.approx([0.1, 0.1])
    assert one["predicted_people"] == 2


def test_protocols(tmp_path: Path, bottom_up: dict[str, str]) -> None:
    """Of pictures with a prediction alone, everybody is found; without the picture of nobody, nobody is invented."""
    found = {p: evaluate(tmp_path / p, **bottom_up, protocol=p)[0] for p in ("all", "annotated", "predicted")}
    assert {p: m["pictures_counted"] for p, m in found.items()} == {"all": 3, "annotated": 2, "predicted": 2}
    assert found["predicted"]["keypoints"]["AR"] == 1.0
    assert found["annotated"]["keypoints"]["AR"] == found["all"]["keypoints"]["AR"] == 0.5


def test_max_scored(tmp_path: Path, bottom_up: dict[str, str]) -> None:
    with_one, _ = evaluate(tmp_path / "one", **bottom_up, max_scored=1)
    assert with_one["keypoints"]["AR"] == 0.5
    _, soft = evaluate(tmp_path / "soft", **bottom_up, soft_nms=True, max_scored=1)
    assert [entry["score"] for entry in soft] == pytest.approx([0.9, 0.9])


def test_worst(tmp_path: Path, bottom_up: dict[str, str]) -> None:
    import cv2

    metrics, _ = evaluate(tmp_path / "out", **bottom_up, worst=2)
    listed = json.loads((tmp_path / "out/worst/worst.json").read_text())
    assert metrics["worst"] == listed
    assert [(p["picture"], p["value"], p["reason"]) for p in listed] == [
        ("nobody.png", 0.0, "invented people 2"),
        ("empty.png", 0.0, "missed people 1"),
    ]
    for picture in listed:
        assert cv2.imread(str(tmp_path / "out/worst" / picture["drawing"])).shape == (120, 2 * 90 + 8, 3)
    evaluate(tmp_path / "out", **bottom_up, worst=1)
    assert len(list((tmp_path / "out/worst").glob("*.jpg"))) == 1


def test_annotations_are_needed(tmp_path: Path, bottom_up: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="annotations"):
        evaluate(tmp_path / "out", images=bottom_up["images"])


def test_no_score_for_a_task(tmp_path: Path, bottom_up: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeBottomUp(np.zeros((17, 2)))
    fake.pose.spec = replace(fake.pose.spec, task="features", skeleton=None)
    monkeypatch.setattr(score, "open_pipeline", lambda config: fake)
    with pytest.raises(ConfigError, match="features"):
        evaluate(tmp_path / "out", **bottom_up)


def test_not_finite_values_are_a_failure(
    tmp_path: Path, bottom_up: dict[str, str], fake_pose: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fake_pose.run

    def overflow(pixels: np.ndarray) -> dict[str, np.ndarray]:
        return run(pixels) | {"scores": np.full((len(pixels), 17), np.nan, np.float32)}

    monkeypatch.setattr(fake_pose, "run", overflow)
    monkeypatch.setattr(score, "open_pipeline", lambda config: Pipeline(fake_pose, "none"))
    metrics, entries = evaluate(tmp_path / "out", status=1, **bottom_up)
    assert set(metrics["failures"]) == {"one.png", "empty.png"}
    assert "not finite" in metrics["failures"]["one.png"]
    assert entries == []
