"""`lite.evaluate.keypoint_ap` against the original implementations and against pycocotools used directly."""

import contextlib
import copy
import io
import json
from pathlib import Path

import numpy as np
import pytest

from lite.evaluate.coco_files import KeypointTruth, read_truth
from lite.evaluate.data_sets import parts_of
from lite.evaluate.keypoint_ap import AP_NAMES, keypoint_ap, keypoint_ap_by_part
from lite.evaluate.result_files import server_entries
from lite.evaluate.submit import PredictedPerson, SubmitRule, person_score, submit
from lite.skeletons import load_skeleton

pytest.importorskip("pycocotools")
SIGMAS = load_skeleton("coco17").oks_sigmas


def sapiens_predictions(path: Path) -> list[PredictedPerson]:
    return [
        PredictedPerson(
            image_id=p["img_id"],
            person_id=p["id"],
            keypoints=np.array(p["keypoints"]),
            keypoint_scores=np.array(p["keypoint_scores"]),
            box_score=p["bbox_score"],
            area=float(np.prod(p["bbox_scale"])),
        )
        for p in json.loads(path.read_text())["predictions"]
    ]


def expect_sapiens(expected: dict, entries: list[dict], truth: KeypointTruth, sigmas: tuple[float, ...]) -> None:
    assert [e["image_id"] for e in entries] == [e["image_id"] for e in expected["submitted"]]
    np.testing.assert_allclose([e["score"] for e in entries], [e["score"] for e in expected["submitted"]], atol=1e-9)
    np.testing.assert_allclose(
        [e["keypoints"][:3] for e in entries], [e["first_kpt"] for e in expected["submitted"]], atol=1e-9
    )
    assert keypoint_ap(truth, entries, sigmas) == pytest.approx(expected["stats"], abs=1e-9)


def test_sapiens_coco(golden: Path) -> None:
    truth = read_truth(golden / "sapiens/eval_coco_annotations.json", 17)
    entries = submit(sapiens_predictions(golden / "sapiens/eval_coco_predictions.json"), SIGMAS)
    expect_sapiens(json.loads((golden / "sapiens/eval_coco_expected.json").read_text()), entries, truth, SIGMAS)


def test_sapiens_wholebody(shared: Path) -> None:
    folder = shared / "reference/sapiens/golden"
    skeleton = load_skeleton("wholebody133")
    expected = json.loads((folder / "eval_expected.json").read_text())["wholebody"]
    truth = read_truth(folder / "coco/test_coco_wholebody.json", 133)
    entries = submit(sapiens_predictions(folder / "eval_wholebody_predictions.json"), skeleton.oks_sigmas)
    expect_sapiens(expected, entries, truth, skeleton.oks_sigmas)
    parts = keypoint_ap_by_part(truth, entries, skeleton.oks_sigmas, parts_of(skeleton))
    assert list(parts) == list(expected["part_stats"])
    for name, numbers in expected["part_stats"].items():
        assert list(parts[name].values()) == pytest.approx(numbers, abs=1e-9), name
    assert [len(server_entries(entries)[0][f]) for f in ("keypoints", "foot_kpts", "face_kpts")] == [51, 18, 204]


@pytest.mark.parametrize("case", ["coco_gt", "coco_det", "coco_synth"])
def test_vitpose(golden: Path, case: str) -> None:
    folder = golden / "vitpose/eval" / case
    truth = read_truth(folder / "annotations.json", 17)
    image_ids = {image["file_name"]: image["id"] for image in truth.images}
    scored = 0
    for name, expected in json.loads((folder / "expected.json").read_text()).items():
        settings = expected["_settings"]
        predictions = [
            PredictedPerson(
                image_id=image_ids[row["image"]],
                person_id=row["bbox_id"],
                keypoints=np.float32(row["preds"])[:, :2],
                keypoint_scores=np.float32(row["preds"])[:, 2],
                box_score=row["boxes"][5],
                area=row["boxes"][4],
            )
            for row in json.loads((folder / settings["prediction"]).read_text())
        ]
        rule = SubmitRule(
            vis_thr=settings.get("vis", 0.2), oks_thr=settings.get("oks", 0.9), soft=settings.get("soft", False)
        )
        entries = submit(predictions, SIGMAS, rule=rule)
        assert len(entries) == expected["_num_kept"], name
        found = keypoint_ap(truth, entries, SIGMAS)
        assert found == pytest.approx({key: expected[key] for key in AP_NAMES}, abs=1e-4), name
        scored += 1
    assert scored >= 2


def by_pycocotools(annotations: dict, entries: list[dict]) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(annotations)
        truth.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(copy.deepcopy(entries)), "keypoints")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats.tolist()


@pytest.mark.parametrize("seed", range(3))
def test_equals_pycocotools(tmp_path: Path, seed: int) -> None:
    """Random people with crowds, unlabelled people, every size class, more than 20 predictions in a picture."""
    annotations, entries = random_case(np.random.default_rng(seed))
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(annotations))
    found = keypoint_ap(read_truth(path, 17), entries, SIGMAS)
    expected = by_pycocotools(annotations, entries)
    assert 0.05 < expected[0] < 0.95
    np.testing.assert_allclose(list(found.values()), expected, atol=1e-12)


def random_case(rng: np.random.Generator) -> tuple[dict, list[dict]]:
    annotations, entries = [], []
    for image_id in range(1, 13):
        for _ in range(rng.integers(0, 5)):
            size = rng.uniform(20, 250)
            keypoints = np.column_stack([rng.uniform(0, size, (17, 2)), rng.integers(0, 3, 17)]).round(2)
            if rng.random() < 0.15:
                keypoints[:] = 0
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "bbox": [0, 0, size, size],
                    "area": size * size * 0.5,
                    "keypoints": keypoints.ravel().tolist(),
                    "num_keypoints": int((keypoints[:, 2] > 0).sum()),
                    "iscrowd": int(rng.random() < 0.1),
                }
            )
            for _ in range(rng.integers(0, 3) + 20 * (image_id == 3)):
                guess = keypoints.copy()
                guess[:, :2] += rng.normal(0, size * rng.uniform(0.01, 0.12), (17, 2))
                entries.append({"image_id": image_id, "category_id": 1, "keypoints": guess.ravel().tolist()})
                entries[-1]["score"] = float(rng.random())
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 300, "height": 300} for i in range(1, 13)]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}, entries


def person(person_id: int = 1, shift: float = 0.0, box_score: float = 1.0, image_id: int = 1) -> PredictedPerson:
    keypoints = np.column_stack([np.linspace(0, 90, 17), np.linspace(10, 190, 17)]) + shift
    return PredictedPerson(
        image_id=image_id,
        person_id=person_id,
        keypoints=keypoints,
        keypoint_scores=np.full(17, 0.5),
        box_score=box_score,
        area=100.0 * 200.0,
    )


def one_person_truth() -> KeypointTruth:
    triples = np.column_stack([person().keypoints, np.full(17, 2)])
    people = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 10, 90, 180], "area": 100.0 * 150.0, "iscrowd": 0}
        | {"keypoints": triples.ravel().tolist(), "num_keypoints": 17}
    ]
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}]
    return KeypointTruth(images=images, people=people, category_id=1, num_keypoints=17)


def test_nobody_predicted() -> None:
    assert submit([], SIGMAS) == []
    numbers = keypoint_ap(one_person_truth(), [], SIGMAS)
    assert (numbers["AP"], numbers["AR"], numbers["AP (M)"]) == (0.0, 0.0, -1.0)


def test_nobody_there() -> None:
    empty = KeypointTruth(images=one_person_truth().images, people=[], category_id=1, num_keypoints=17)
    for entries in ([], submit([person()], SIGMAS)):
        assert set(keypoint_ap(empty, entries, SIGMAS).values()) == {-1.0}


def test_one_perfect_person() -> None:
    numbers = keypoint_ap(one_person_truth(), submit([person()], SIGMAS), SIGMAS)
    assert numbers["AP"] == pytest.approx(1.0)
    assert (numbers["AR"], numbers["AP (M)"]) == (1.0, -1.0)


def test_submit_drops_equal_ids_and_near_copies() -> None:
    same_id = [person(1, 0, 0.4), person(1, 60, 0.9)]
    assert [e["score"] for e in submit(same_id, SIGMAS)] == [0.2]
    copies = [person(1, 0, 0.4), person(2, 0.5, 0.9), person(3, 60, 0.6), person(4, 0, 0.3, image_id=2)]
    entries = submit(copies, SIGMAS)
    assert [(e["image_id"], e["score"]) for e in entries] == [(1, 0.45), (1, 0.3), (2, 0.15)]
    assert entries[0]["keypoints"][:3] == [0.5, 10.5, 0.5]


def test_person_score_counts_strictly_above() -> None:
    scores = np.array([0.2, 0.4, 0.8])
    assert person_score(0.5, scores, SubmitRule()) == pytest.approx(0.3)
    assert person_score(0.5, np.array([0.2, 0.1]), SubmitRule()) == 0.0
    assert person_score(0.5, scores, SubmitRule(person_score="keypoints")) == pytest.approx(0.6)
    assert person_score(0.5, scores, SubmitRule(person_score="given")) == 0.5


def test_pycocotools_stays_silent(capsys: pytest.CaptureFixture) -> None:
    keypoint_ap(one_person_truth(), submit([person()], SIGMAS), SIGMAS)
    assert capsys.readouterr() == ("", "")


def test_without_pycocotools(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from lite.errors import MissingExtraError

    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hpe-lite\[eval\]'"):
        keypoint_ap(one_person_truth(), [], SIGMAS)
