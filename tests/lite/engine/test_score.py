"""`hpe-lite eval` with networks that know the answer: every source of boxes, existing results, broken input."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from lite.artifact import ArtifactSpec, CropRule, LetterboxRule, OutputSpec
from lite.assemble import to_records
from lite.engine import score
from lite.engine.pipeline import Pipeline
from lite.errors import AnnotationError, InputError
from lite.evaluate.config import EvalConfig
from lite.geometry import box_to_center_scale, letterbox_geometry, transform_points, udp_to_frame
from lite.skeletons import load_skeleton
from lite.structures import Frame, Poses
from lite.writers.records import RecordWriter

pytest.importorskip("pycocotools")
INPUT_HW, CANVAS_HW, FRAME_HW = (64, 48), (64, 64), (240, 320)
TEMPLATE = np.column_stack([np.linspace(8, 40, 17), np.linspace(54, 10, 17)]).astype(np.float32)  # crop px
PEOPLE = {  # picture -> boxes xyxy
    "one.png": [(20, 30, 100, 180)],
    "two.png": [(10, 10, 90, 170), (150, 40, 260, 230)],
    "nobody.png": [],
}


class KnowingPose:
    """Every crop holds the template."""

    device, describe = "cpu", "knows"
    spec = ArtifactSpec(
        task="pose",
        model="knowing-pose",
        input_hw=INPUT_HW,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        crop=CropRule(),
        skeleton="coco17",
        outputs=(
            OutputSpec(name="keypoints", shape=("N", 17, 2), dtype="float32", unit="crop px"),
            OutputSpec(name="scores", shape=("N", 17), dtype="float32", unit="0..1"),
        ),
    )

    def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        n = len(pixels)
        return {"keypoints": np.tile(TEMPLATE, (n, 1, 1)), "scores": np.full((n, 17), 0.8, np.float32)}

    def close(self) -> None:
        pass


class KnowingDetector:
    """Knows a picture by its grey level, and sees somebody in the one where nobody is."""

    device, describe = "cpu", "knows"
    spec = ArtifactSpec(
        task="detect",
        model="knowing-detector",
        input_hw=CANVAS_HW,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        letterbox=LetterboxRule(),
    )

    def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        boxes, scores = np.zeros((len(pixels), 3, 4), np.float32), np.zeros((len(pixels), 3), np.float32)
        _, scale_xy = letterbox_geometry(FRAME_HW, CANVAS_HW)
        for n, canvas in enumerate(pixels):
            known = PEOPLE[list(PEOPLE)[round(int(canvas[5, 5, 0]) / 50)]] or [(200, 50, 280, 200)]
            boxes[n, : len(known)] = np.float32(known) * np.float32([*scale_xy, *scale_xy])
            scores[n, : len(known)] = 0.9
        return {"boxes": boxes, "scores": scores, "labels": np.zeros(scores.shape, np.int64)}

    def close(self) -> None:
        pass


def true_keypoints(box: tuple[float, ...]) -> np.ndarray:
    center, scale = box_to_center_scale(np.float32([box]), 1.25, INPUT_HW)
    return transform_points(TEMPLATE[None], udp_to_frame(center, scale, INPUT_HW))[0]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures, annotations, and networks that know both."""

    def open_knowing(config: EvalConfig) -> Pipeline:
        detector = "none" if config.detector == "none" else KnowingDetector()
        return Pipeline(KnowingPose(), detector, bbox_thr=config.bbox_thr, batch_size=config.batch_size)

    monkeypatch.setattr(score, "open_pipeline", open_knowing)
    (tmp_path / "pictures").mkdir()
    images, annotations = [], []
    for number, (name, boxes) in enumerate(PEOPLE.items()):
        cv2.imwrite(str(tmp_path / "pictures" / name), np.full((*FRAME_HW, 3), 50 * number, np.uint8))
        images.append({"id": number + 1, "file_name": name, "width": FRAME_HW[1], "height": FRAME_HW[0]})
        for x1, y1, x2, y2 in boxes:
            keypoints = np.column_stack([true_keypoints((x1, y1, x2, y2)), np.full(17, 2)])
            annotation = {"id": len(annotations) + 1, "image_id": number + 1, "category_id": 1, "iscrowd": 0}
            annotation |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": 0.5 * (x2 - x1) * (y2 - y1)}
            annotations.append(annotation | {"num_keypoints": 17, "keypoints": keypoints.ravel().tolist()})
    write(
        tmp_path / "truth.json",
        {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]},
    )
    return tmp_path


def write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


def run(data: Path, status: int = 0, **changes: object) -> dict:
    settings = {"annotations": str(data / "truth.json"), "output": str(data / "out"), "quiet": True}
    if "predictions" not in changes:
        settings["images"] = str(data / "pictures")
    assert score.evaluate(EvalConfig(**(settings | changes))) == status
    return json.loads((data / "out/metrics.json").read_text())


@pytest.mark.parametrize("frame_batch", [1, 2, 16])
def test_truth_boxes(data: Path, frame_batch: int) -> None:
    metrics = run(data, frame_batch=frame_batch, batch_size=2)
    assert metrics["keypoints"]["AP"] == pytest.approx(1.0)
    assert (metrics["pictures"], metrics["annotated_people"], metrics["predicted_people"]) == (3, 3, 3)
    assert "boxes" not in metrics
    assert metrics["model"]["pose"]["model"] == "knowing-pose"
    assert metrics["config"]["frame_batch"] == frame_batch
    entries = json.loads((data / "out/results.json").read_text())
    np.testing.assert_allclose([e["score"] for e in entries], 0.8, atol=1e-6)


def test_end_to_end(data: Path) -> None:
    metrics = run(data, boxes="detector")
    assert metrics["keypoints"]["AR"] == pytest.approx(1.0)
    assert metrics["boxes"]["recall_iou50_score30"] == 1.0
    assert metrics["boxes"]["recall_people_above_48px"] == 3
    assert (metrics["boxes"]["invented"], metrics["boxes"]["invented_of_boxes"]) == (1, 4)
    assert metrics["boxes"]["ap"]["AR"] == pytest.approx(1.0)
    assert metrics["predicted_people"] == 4
    assert run(data, boxes="detector", bbox_thr=0.95)["keypoints"]["AP"] == 0.0


def test_whole_picture_as_box(data: Path) -> None:
    assert run(data, boxes="detector", detector="none")["predicted_people"] == 3


def test_detection_file(data: Path) -> None:
    rows = [{"image_id": 2, "category_id": 1, "bbox": [10, 10, 80, 160], "score": 0.01}]
    rows += [{"image_id": 99, "category_id": 1, "bbox": [10, 10, 80, 160], "score": 1.0}]
    metrics = run(data, boxes=str(write(data / "boxes.json", rows)))
    assert metrics["keypoints"]["AR"] == pytest.approx(1 / 3)
    assert metrics["predicted_people"] == 1
    assert metrics["boxes"]["recall_iou50_score30"] == 0.0
    assert run(data, boxes=str(write(data / "boxes.json", [])))["predicted_people"] == 0
    with pytest.raises(AnnotationError, match="do the files belong together"):
        run(data, boxes=str(write(data / "boxes.json", rows[1:])))


def test_limit(data: Path) -> None:
    metrics = run(data, limit=1)
    assert (metrics["pictures"], metrics["annotated_people"]) == (1, 1)
    assert metrics["keypoints"]["AP"] == pytest.approx(1.0)


def test_own_results_score_the_same(data: Path) -> None:
    first = run(data, boxes="detector")
    shutil.copy(data / "out/results.json", data / "kept.json")
    again = run(data, predictions=str(data / "kept.json"))
    assert again["keypoints"] == first["keypoints"]
    assert "boxes" not in again
    assert run(data, predictions=str(data / "kept.json"), limit=1)["predicted_people"] == 1


def results_folder(data: Path, name_of: Callable[[str], str] = lambda name: f"album/{name}") -> Path:
    writer = RecordWriter(load_skeleton("coco17"), {})
    for name, boxes in PEOPLE.items():
        frame = Frame(pixels=np.zeros((*FRAME_HW, 3), np.uint8), source=name_of(name))
        n = len(boxes)
        poses = Poses(
            keypoints=np.float32([true_keypoints(box) for box in boxes]).reshape(n, 17, 2),
            keypoint_scores=np.full((n, 17), 0.8, np.float32),
            boxes=np.float32(boxes).reshape(n, 4),
            scores=np.full(n, 0.5, np.float32),
            frame_of=np.zeros(n, np.int64),
        )
        writer.write(data / "infer" / f"{Path(name).stem}.json", to_records([frame], poses)[0])
    return data / "infer"


def test_results_folder(data: Path) -> None:
    folder = results_folder(data)
    metrics = run(data, predictions=str(folder))
    assert metrics["keypoints"]["AP"] == pytest.approx(1.0)
    assert (metrics["boxes"]["recall_iou50_score30"], metrics["boxes"]["invented"]) == (1.0, 0)
    entries = json.loads((data / "out/results.json").read_text())
    assert entries[0]["score"] == pytest.approx(0.4)
    (folder / "two.json").unlink()
    metrics = run(data, predictions=str(folder))
    assert metrics["pictures_without_result"] == 1
    assert metrics["keypoints"]["AR"] == pytest.approx(1 / 3)


def test_plain_results_folder(data: Path) -> None:
    """The field's own form: no picture name, no boxes."""
    people = [{"keypoints": true_keypoints(box).tolist(), "keypoint_scores": [0.5] * 17} for box in PEOPLE["two.png"]]
    (data / "plain").mkdir()
    write(data / "plain/two.json", {"instance_info": people})
    metrics = run(data, predictions=str(data / "plain"))
    assert metrics["keypoints"]["AR"] == pytest.approx(2 / 3)
    assert metrics["pictures_without_result"] == 2


def test_results_folder_of_other_pictures(data: Path) -> None:
    with pytest.raises(AnnotationError, match="found 3 of other pictures"):
        run(data, predictions=str(results_folder(data, lambda name: f"other_{name}")))


def test_results_folder_with_two_of_a_name(data: Path) -> None:
    folder = results_folder(data)
    shutil.copy(folder / "two.json", folder / "copy.json")
    with pytest.raises(AnnotationError, match="expected one result"):
        run(data, predictions=str(folder))


def test_results_folder_of_another_skeleton(data: Path) -> None:
    folder = results_folder(data)
    with pytest.raises(AnnotationError):
        run(data, predictions=str(folder), skeleton="crowdpose14")


def test_an_unreadable_picture_counts_as_empty(data: Path) -> None:
    (data / "pictures/one.png").write_bytes(b"no picture")
    metrics = run(data, status=1)
    assert list(metrics["failures"]) == ["one.png"]
    assert metrics["keypoints"]["AR"] == pytest.approx(2 / 3)


def test_no_picture_readable(data: Path) -> None:
    shutil.rmtree(data / "pictures")
    (data / "pictures").mkdir()
    with pytest.raises(InputError, match="could read none of 3"):
        run(data)


def test_nothing_annotated(data: Path) -> None:
    write(data / "truth.json", {"images": [], "annotations": []})
    with pytest.raises(AnnotationError, match="expected annotated pictures"):
        run(data)


def test_table_is_printed(data: Path, capsys: pytest.CaptureFixture) -> None:
    run(data, boxes="detector", quiet=False)
    printed = capsys.readouterr().out
    assert "3 pictures, 3 people" in printed
    assert "recall 1.000 of 3 people" in printed
    assert "metrics.json" in printed
