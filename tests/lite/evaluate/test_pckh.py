"""PCKh and MPII's files against the original evaluation, and on hand-made people."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lite.errors import AnnotationError
from lite.evaluate.mpii_files import parse_mpii
from lite.evaluate.pckh import PCKH_NAMES, keypoints_of_people, pckh
from lite.evaluate.result_files import preds_of, read_preds
from lite.evaluate.submit import PredictedPerson
from lite.geometry import box_to_center_scale


def expect_original(folder: Path) -> None:
    path = folder / "mpii_val.json"
    truth = parse_mpii(json.loads(path.read_text()), path)
    expected = json.loads((folder / "expected.json").read_text())
    boxes = np.array([person["bbox"] for person in truth.people])
    boxes[:, 2:] += boxes[:, :2]
    center, scale = box_to_center_scale(boxes, 1.25, (1, 1))
    np.testing.assert_allclose(center, [row["center"] for row in expected["test_mode_db"]], atol=2e-4)
    np.testing.assert_allclose(scale / 200, [row["scale"] for row in expected["test_mode_db"]], atol=1e-5)
    for level, numbers in expected["results"].items():
        found = pckh(truth, np.load(folder / f"pred_{level}.npz")["preds"][..., :2])
        assert found == pytest.approx(numbers, abs=1e-4), level


def test_original(golden: Path) -> None:
    expect_original(golden / "vitpose/eval/mpii_synth")


def test_original_real(shared: Path) -> None:
    expect_original(shared / "reference/vitpose/golden/eval/mpii")


def person(image: str = "a.jpg", shift: float = 0.0, **changes: Any) -> dict:
    joints = np.column_stack([np.linspace(100, 130, 16), np.linspace(60, 200, 16)])
    joints[:, 0] += shift
    entry = {"image": image, "center": [115.0 + shift, 120.0], "scale": 0.8, "joints": joints.tolist()}
    return entry | {"joints_vis": [1] * 16} | changes


HEAD = [100, 50, 130, 90]  # diagonal 50, head size 30


def write(folder: Path, people: list, heads: Any = None) -> Path:
    path = folder / "mpii_val.json"
    path.write_text(json.dumps(people))
    heads = [HEAD] * len(people) if heads is None else heads
    (folder / "mpii_heads.json").write_text(json.dumps(heads))
    return path


def read(folder: Path, people: list, heads: Any = None, name: str | None = None) -> Any:
    path = write(folder, people, heads)
    return parse_mpii(people, path, folder / name if name else None)


def test_heads_from_json_and_csv(tmp_path: Path) -> None:
    people = [person(), person("b.jpg", joints_vis=[0] * 15 + [1])]
    truth = read(tmp_path, people)
    assert [p["head_size"] for p in truth.people] == pytest.approx([30.0, 30.0])
    assert [image["file_name"] for image in truth.images] == ["a.jpg", "b.jpg"]
    assert truth.people[0]["keypoints"][:3] == [99.0, 59.0, 2.0]
    assert [p["num_keypoints"] for p in truth.people] == [16, 1]
    (tmp_path / "heads.csv").write_text("x1,y1,x2,y2\n100,50,130,90\n0,0,30,40\n")
    assert read(tmp_path, people, name="heads.csv").people[1]["head_size"] == pytest.approx(30.0)


def test_half_a_head_is_a_hit(tmp_path: Path) -> None:
    truth = read(tmp_path, [person(joints_vis=[0] + [1] * 15)])
    exact = np.array(truth.people[0]["keypoints"]).reshape(1, 16, 3)[..., :2]
    off = exact.copy()
    off[0, 9, 0] += 15.0  # head: exactly half
    off[0, 12, 0] += 15.1
    numbers = pckh(truth, off)
    assert tuple(numbers) == PCKH_NAMES
    assert (numbers["Head"], numbers["Shoulder"], numbers["Ankle"]) == (100.0, 50.0, 100.0)
    assert numbers["PCKh"] == pytest.approx(100 * 12 / 13)
    assert numbers["PCKh@0.1"] == pytest.approx(100 * 11 / 13)


def test_nobody_found_and_nobody_there(tmp_path: Path) -> None:
    truth = read(tmp_path, [person()])
    assert set(pckh(truth, np.full((1, 16, 2), np.nan)).values()) == {0.0}
    assert set(pckh(truth.only(set()), np.zeros((0, 16, 2))).values()) == {-1.0}


def predicted(points: np.ndarray, person_id: int = 0) -> PredictedPerson:
    values = {"keypoints": points, "keypoint_scores": np.ones(16), "box_score": 1.0, "area": 1.0}
    return PredictedPerson(image_id=1, person_id=person_id, **values)


def test_people_of_a_detector_find_their_annotation(tmp_path: Path) -> None:
    truth = read(tmp_path, [person(), person(shift=60), person("b.jpg")])
    exact = np.array([p["keypoints"] for p in truth.people]).reshape(3, 16, 3)[..., :2]
    far = predicted(exact[0] + 1000, 0)
    found = keypoints_of_people(truth, [far, predicted(exact[1], 1), predicted(exact[0], 2)], in_order=False)
    np.testing.assert_array_equal(found[:2], exact[:2])
    assert np.isnan(found[2]).all()
    assert np.isnan(keypoints_of_people(truth, [], in_order=False)).all()
    in_order = keypoints_of_people(truth, [predicted(exact[1], 1), predicted(exact[0], 0)], in_order=True)
    np.testing.assert_array_equal(in_order[:2], exact[:2])


def test_results_come_back(tmp_path: Path) -> None:
    truth = read(tmp_path, [person(), person(shift=60), person("b.jpg")])
    points = np.random.default_rng(0).uniform(0, 200, (3, 16, 2))
    points[1] = np.nan
    (tmp_path / "results.json").write_text(json.dumps(preds_of(points)))
    people = read_preds(tmp_path / "results.json", truth)
    assert [(p.image_id, p.person_id) for p in people] == [(1, 0), (2, 0)]
    np.testing.assert_allclose(keypoints_of_people(truth, people, in_order=True), points)
    for broken in ({"preds": [[[1, 2]] * 16]}, {"preds": [[[1, 2]] * 15] * 3}, []):
        (tmp_path / "results.json").write_text(json.dumps(broken))
        with pytest.raises(AnnotationError, match="expected"):
            read_preds(tmp_path / "results.json", truth)


@pytest.mark.parametrize(
    "people",
    [
        {},
        [7],
        [person(scale=0)],
        [person(center=[1])],
        [person(joints=[[1, 2]] * 15)],
        [person(joints_vis=[1] * 15)],
        [person(image=None)],
    ],
)
def test_broken_annotations(tmp_path: Path, people: Any) -> None:
    with pytest.raises(AnnotationError, match="expected"):
        read(tmp_path, people, [HEAD])


@pytest.mark.parametrize("heads", [[], [HEAD, HEAD], [[1, 2, 3]], {}, [[5, 5, 5, 5]], [None]])
def test_broken_heads(tmp_path: Path, heads: Any) -> None:
    with pytest.raises(AnnotationError, match="head"):
        read(tmp_path, [person()], heads)


@pytest.mark.parametrize(
    ("name", "content"), [("h.csv", b"1,2,x,4"), ("h.txt", b""), ("h.json", b"{"), ("none.json", None)]
)
def test_broken_head_files(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(AnnotationError, match="expected"):
        read(tmp_path, [person()], name=name)


def test_broken_mat_files(tmp_path: Path) -> None:
    (tmp_path / "damaged.mat").write_bytes(b"no such thing" * 20)
    (tmp_path / "other.mat").write_bytes(b" " * 126 + b"IM")
    for name in ("damaged.mat", "other.mat"):
        with pytest.raises(AnnotationError, match=r"MPII's \.mat file"):
            read(tmp_path, [person()], name=name)


def test_no_head_sizes(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="--heads"):
        parse_mpii([person()], tmp_path / "mpii_val.json")
