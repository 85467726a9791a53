"""`lite.evaluate.data_sets`: files are recognised, and their own numbers come out as the originals compute them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lite.errors import AnnotationError
from lite.evaluate.data_sets import DATA_SETS, open_truth, parts_of, recognise
from lite.evaluate.keypoint_ap import crowd_ap, keypoint_ap, keypoint_ap_by_part
from lite.evaluate.result_files import read_entries
from lite.evaluate.submit import PredictedPerson, SubmitRule, submit
from lite.skeletons import load_skeleton

pytest.importorskip("pycocotools")


def predictions(path: Path, image_ids: dict[str, int]) -> list[PredictedPerson]:
    arrays = np.load(path)
    return [
        PredictedPerson(
            image_id=image_ids[str(image)],
            person_id=int(person_id),
            keypoints=triples[:, :2],
            keypoint_scores=triples[:, 2],
            box_score=float(box[5]),
            area=float(box[4]),
        )
        for image, person_id, triples, box in zip(*(arrays[k] for k in ("image", "bbox_id", "preds", "boxes")))
    ]


def expect_vitpose(folder: Path, data_set: str) -> None:
    """Every case of a folder: people kept, and the numbers to 1e-4 (CrowdPose's own are rounded to that)."""
    found, skeleton, truth = open_truth(folder / "annotations.json")
    assert found.name == data_set
    image_ids = {image["file_name"]: image["id"] for image in truth.images}
    cases = json.loads((folder / "expected.json").read_text())["results"]
    assert len(cases) >= 2
    for name, expected in cases.items():
        settings = expected["_settings"]
        rule = SubmitRule(
            vis_thr=settings.get("vis", 0.2), oks_thr=settings.get("oks", 0.9), soft=settings.get("soft", False)
        )
        people = predictions(folder / settings["prediction"], image_ids)
        entries = submit(people, skeleton.oks_sigmas, rule=rule)
        assert len(entries) == expected["_num_kept"], name
        measure = crowd_ap if found.metric == "crowd" else keypoint_ap
        numbers = measure(truth, entries, skeleton.oks_sigmas)
        assert numbers == pytest.approx({k: v for k, v in expected.items() if k[0] != "_"}, abs=1e-4), name
        if (stored := folder / f"result_{name}.json").is_file():  # what the original handed to its scorer
            expect_entries(entries, json.loads(stored.read_text()))


def expect_entries(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """The same people with the same scores; the original rounds positions to five decimals."""
    assert len(found) == len(expected)
    rows = [sorted([e["image_id"], e["score"], *e["keypoints"]] for e in entries) for entries in (found, expected)]
    np.testing.assert_allclose(rows[0], rows[1], rtol=0, atol=2e-5)


def test_aic(golden: Path) -> None:
    expect_vitpose(golden / "vitpose/eval/aic_synth", "aic")


@pytest.mark.parametrize(
    ("case", "data_set"),
    [
        ("aic_gt", "aic"),
        ("crowdpose_gt", "crowdpose"),
        ("coco_gt", "coco"),
        ("coco_det", "coco"),
        ("coco_synth", "coco"),
    ],
)
def test_vitpose(shared: Path, case: str, data_set: str) -> None:
    folder = shared / "reference/vitpose/golden/eval" / case
    assert len(list(folder.glob("result_*.json"))) >= 2
    expect_vitpose(folder, data_set)


def test_higherhrnet_protocols(shared: Path) -> None:
    """The same results over other pictures: HigherHRNet's own protocol leaves out pictures without a prediction."""
    folder = shared / "reference/higherhrnet/golden"
    _, skeleton, truth = open_truth(folder / "coco_gt.json")
    entries = read_entries(folder / "coco_predictions.json", truth)
    expected = json.loads((folder / "coco_expected.json").read_text())
    protocols = {
        "all_ground_truth_images": None,
        "images_with_predictions": {entry["image_id"] for entry in entries},
        "annotated_images_only": {person["image_id"] for person in truth.people},
    }
    for name, image_ids in protocols.items():
        numbers = keypoint_ap(truth, entries, skeleton.oks_sigmas, image_ids=image_ids)
        assert list(numbers.values()) == pytest.approx(list(expected[name].values()), abs=1e-6), name


def annotated(count: int, names: list[str] | None = None, images: dict[str, Any] | None = None, **more: Any) -> dict:
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 20], "keypoints": [5, 6, 2] * count}
    category = {"id": 1, "name": "person"} | ({"keypoints": names} if names else {})
    image = {"id": 1, "file_name": "a.jpg"} | (images or {})
    return {"images": [image], "annotations": [annotation | more], "categories": [category]}


@pytest.mark.parametrize(
    ("content", "skeleton", "name"),
    [
        (annotated(17), None, "coco"),
        (annotated(17, foot_kpts=[0] * 18), None, "wholebody"),
        (annotated(133), None, "wholebody"),
        (annotated(14, ["Right Shoulder"]), None, "aic"),
        (annotated(14, ["left_shoulder"]), None, "crowdpose"),
        (annotated(14), "aic14", "aic"),
        (annotated(14, images={"crowdIndex": 0.3}), None, "crowdpose"),
        (annotated(308), None, "goliath308"),
        (annotated(0, goliath_wholebody_kpts=[0] * 924), None, "goliath308"),
        ({"images": [], "annotations": []}, None, "coco"),
        ({"images": [], "annotations": []}, "crowdpose14", "crowdpose"),
        ([{"joints": []}], None, "mpii"),
    ],
)
def test_recognise(content: Any, skeleton: str | None, name: str) -> None:
    assert recognise(content, "annotations.json", skeleton) == name


def test_recognise_ochuman_by_its_file_name() -> None:
    assert recognise(annotated(17), "ochuman_coco_format_val_range_0.00_1.00.json") == "ochuman"


@pytest.mark.parametrize("content", [annotated(136), annotated(14)])
def test_what_cannot_be_told(content: dict) -> None:
    with pytest.raises(AnnotationError, match="name --dataset"):
        recognise(content, "annotations.json")


def write(folder: Path, content: Any) -> Path:
    path = folder / "annotations.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("content", "name", "skeleton"),
    [
        (annotated(17), "auto", "wholebody133"),
        (annotated(14, ["Right Shoulder"]), "auto", "coco17"),
        (annotated(14, ["Right Shoulder"]), "auto", "crowdpose14"),
        (annotated(17), "aic", None),
        (annotated(133), "auto", "goliath308"),
        ([{"joints": []}], "auto", "coco17"),
    ],
)
def test_skeleton_and_annotations_must_fit(tmp_path: Path, content: Any, name: str, skeleton: str | None) -> None:
    with pytest.raises(AnnotationError, match="fit"):
        open_truth(write(tmp_path, content), name, skeleton)


def test_a_named_data_set_brings_its_rules(tmp_path: Path) -> None:
    path = write(tmp_path, annotated(14, ["Right Shoulder"], area=99.0))
    areas = {name: open_truth(path, name, "aic14")[2].people[0]["area"] for name in ("coco", "aic", "auto")}
    assert areas == {"coco": 99.0, "aic": pytest.approx(0.53 * 200), "auto": pytest.approx(0.53 * 200)}


def test_body_of_a_whole_body_file(tmp_path: Path) -> None:
    data_set, skeleton, truth = open_truth(write(tmp_path, annotated(17, foot_kpts=[0] * 18)), "auto", "coco17")
    assert (data_set.name, skeleton.name, truth.num_keypoints) == ("coco", "coco17", 17)


def test_every_data_set_has_a_skeleton_with_parts() -> None:
    for data_set in DATA_SETS.values():
        skeleton = load_skeleton(data_set.skeleton)
        assert sorted(k for part in parts_of(skeleton).values() for k in part) == list(range(skeleton.num_keypoints))


def test_308_keypoints(tmp_path: Path) -> None:
    """Body 17 with the wrists from between the hands, feet 6, hands 20 each, extra 7, face 238."""
    skeleton = load_skeleton("goliath308")
    parts = parts_of(skeleton)
    sizes = {"body": 17, "foot": 6, "righthand": 20, "lefthand": 20, "extra": 7, "face": 238}
    assert {name: len(part) for name, part in parts.items()} == sizes
    assert {skeleton.keypoint_names[k] for k in parts["body"][-2:]} == {"left_wrist", "right_wrist"}
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 200, (308, 2))
    labelled = np.column_stack([points, np.full(308, 2)])
    labelled[parts["face"], 2] = 0
    content = annotated(0, goliath_wholebody_kpts=labelled.ravel().tolist())
    content["annotations"][0] |= {"bbox": [0, 0, 200, 200], "area": 20000.0}
    _, _, truth = open_truth(write(tmp_path, content))
    guess = points.copy()
    guess[parts["foot"]] += 500
    entry = {"image_id": 1, "category_id": 1, "score": 0.9}
    entry["keypoints"] = np.column_stack([guess, np.ones(308)]).ravel().tolist()
    numbers = keypoint_ap_by_part(truth, [entry], skeleton.oks_sigmas, parts)
    found = {name: part["AP"] for name, part in numbers.items()}
    whole = {"body": 1.0, "foot": 0.0, "righthand": 1.0, "lefthand": 1.0, "extra": 1.0, "face": -1.0}
    assert found == pytest.approx(whole)


def test_crowd_levels() -> None:
    """AP of each level counts its own pictures alone, and none without any."""
    skeleton = load_skeleton("crowdpose14")
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "person"}]}
    entries = []
    rng = np.random.default_rng(0)
    for image_id, crowd_index in enumerate((0.1, 0.199, 0.2, 0.5), start=1):
        points = rng.uniform(0, 100, (14, 2))
        content["images"].append({"id": image_id, "file_name": f"{image_id}.jpg", "crowdIndex": crowd_index})
        annotation = {"id": image_id, "image_id": image_id, "category_id": 1, "bbox": [0, 0, 100, 100], "iscrowd": 0}
        annotation["keypoints"] = np.column_stack([points, np.full(14, 2)]).ravel().tolist()
        content["annotations"].append(annotation)
        guess = points + (300 if image_id == 4 else 0)
        entry = {"image_id": image_id, "category_id": 1, "score": 0.9 - 0.1 * image_id}
        entries.append(entry | {"keypoints": np.column_stack([guess, np.ones(14)]).ravel().tolist()})
    from lite.evaluate.coco_files import parse_truth

    truth = parse_truth(content, "crowd", 14, area_of_box=True)
    numbers = crowd_ap(truth, entries, skeleton.oks_sigmas)
    assert (numbers["AP(E)"], numbers["AP(H)"]) == (pytest.approx(1.0), -1.0)
    assert numbers["AP(M)"] == pytest.approx(51 / 101)
    assert numbers["AR"] == pytest.approx(0.75)
    del truth.images[0]["crowdIndex"]
    with pytest.raises(AnnotationError, match="crowdIndex"):
        crowd_ap(truth, entries, skeleton.oks_sigmas)
