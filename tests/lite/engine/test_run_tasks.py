"""Whole runs with fake networks of every task: what is drawn, what is written, and what one that fails leaves."""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import lite
from lite.config import InferConfig
from lite.engine import run
from lite.engine.pipeline import Pipeline
from lite.evaluate.config import EvalConfig

WHITE = 255


@pytest.fixture
def infer(monkeypatch, tmp_path) -> Callable[..., int]:
    """`infer(networks, detector, **settings)` of the pictures in `in`, results in `out`."""

    def start(networks, detector=None, output="out", **settings):
        def open_pipeline(config):
            return Pipeline(networks, detector, pictures=config.parts & run.MAP_PICTURES, batch_size=config.batch_size)

        monkeypatch.setattr(run, "open_pipeline", open_pipeline)
        return run.infer(InferConfig(input=str(tmp_path / "in"), output=str(tmp_path / output), quiet=True, **settings))

    return start


@pytest.fixture
def photos(tmp_path, picture) -> Callable[..., None]:
    """`photos(brightness, ...)` puts pictures of two people of these brightnesses there: 0.png, 1.png, ..."""

    def make(*brightness: int) -> None:
        (tmp_path / "in").mkdir(exist_ok=True)
        for n, level in enumerate(brightness):
            cv2.imwrite(str(tmp_path / "in" / f"{n}.png"), picture(2, 96, 160, brightness=level)[..., ::-1])

    return make


def drawn(folder: Path) -> np.ndarray | None:
    """Two places of the overlay, as RGB: near the top left corner, and the middle."""
    overlay = cv2.imread(str(folder / "0.jpg"))
    return None if overlay is None else overlay[[12, 60], [30, 110], ::-1].astype(int)


def test_what_is_drawn(infer, photos, fake, tmp_path):
    def networks():
        return [fake("segment"), fake("classify")]

    photos(212)
    plain, green = [212, 212, 212], [106, 233, 106]  # label 2 is green, at half opacity
    for draw, middle in [("classes", plain), ("labels", green), ("skeleton,labels,classes", green), ("boxes", plain)]:
        infer(networks(), draw=draw)
        assert np.abs(drawn(tmp_path / "out")[1] - middle).max() < 12
    infer(networks(), draw="labels", opacity=0.0)
    assert np.abs(drawn(tmp_path / "out")[1] - plain).max() < 12
    corner = np.s_[2:14, 40:100]
    assert cv2.imread(str(tmp_path / "out" / "0.jpg"))[corner].min() > 200
    infer(networks(), draw="classes")
    assert cv2.imread(str(tmp_path / "out" / "0.jpg"))[corner].min() < 20  # letters on black
    infer(networks(), draw="none", output="none")
    assert drawn(tmp_path / "none") is None and (tmp_path / "none" / "0.labels.png").is_file()


@pytest.mark.parametrize("draw", ["heatmaps", "tags", "heatmaps,tags", "skeleton"])
def test_pictures_of_maps_have_files_of_their_own(infer, photos, fake, tmp_path, draw):
    photos(100, 120)
    assert infer(fake("pose-bottom-up"), draw=draw) == 0
    names = {path.name for path in (tmp_path / "out").glob("1.*")}
    wanted = {f"1.{part}.png" for part in draw.split(",")} if "skeleton" not in draw else {"1.jpg"}
    assert names == {"1.json"} | wanted


def test_nobody_has_pictures_of_maps_as_well(infer, photos, fake, tmp_path):
    photos(0)
    cv2.imwrite(str(tmp_path / "in" / "0.png"), np.zeros((40, 60, 3), np.uint8))
    assert infer(fake("pose-bottom-up"), draw="heatmaps,tags") == 0
    (result,) = lite.load_results(tmp_path / "out")
    assert result.keypoints.shape == (0, 17, 2)
    assert cv2.imread(str(tmp_path / "out" / "0.tags.png")).size


def test_a_network_that_fails_on_a_picture(infer, photos, fake, fake_pose, fake_detector, tmp_path, capsys):
    """Keypoints stay; the run goes on, says what failed and ends with 1; an earlier label map is taken away."""
    photos(212, 212, 212)
    networks = [fake_pose, fake("segment"), fake("classify")]
    assert infer(networks, fake_detector) == 0
    assert (tmp_path / "out" / "1.labels.png").is_file()
    photos(212, WHITE, 212)
    assert infer(networks, fake_detector) == 1
    assert "segmentation and classification networks" in capsys.readouterr().err
    _, failed, last = lite.load_results(tmp_path / "out")
    assert failed.error and failed.keypoints.shape == (2, 17, 2) and failed.person_areas == ({}, {})
    assert failed.classes is failed.label_map is None and not (tmp_path / "out" / "1.labels.png").exists()
    assert last.error is None and last.label_map and last.classes and last.person_areas[1]["skin"]
    report = json.loads((tmp_path / "out" / "run.json").read_text())
    assert len(report["failed"]) == 1 and report["people"] == 6
    (tmp_path / "in" / "0.png").write_bytes(b"")
    assert infer(networks, fake_detector) == 1
    assert not (tmp_path / "out" / "0.labels.png").exists()


def test_many_workers_give_the_same_results_as_one(infer, photos, fake, fake_pose, fake_detector, tmp_path):
    photos(*range(0, 250, 20))
    for threads in (1, 8):
        networks = [fake_pose, fake("segment"), fake("classify")]
        infer(networks, fake_detector, output=str(threads), frame_batch=2, threads=threads)
    names = sorted(path.name for path in (tmp_path / "1").iterdir() if path.name != "run.json")
    assert len(names) == 3 * 13
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "8" / name).read_bytes()


@pytest.mark.parametrize(
    "config", [InferConfig(input="a"), EvalConfig(images="a", annotations="b")], ids=["infer", "eval"]
)
def test_settings_of_tasks_reach_them(monkeypatch, config):
    opened = []
    monkeypatch.setattr(run, "Pipeline", lambda *_, **options: opened.append(options["options"]))
    settings = {"det_thr": 0.25, "tag_thr": 2.0, "person_thr": 0.125, "refine": False, "keep_people": "first"}
    settings |= {"rounded_tags": False, "merge_equal_tags": True, "max_people": 5, "label_resize": "twice", "top": 3}
    run.open_pipeline(config)
    run.open_pipeline(dataclasses.replace(config, **settings))
    usual, other = opened
    assert usual.grouping == run.Grouping() and (usual.resize, usual.top) == ("once", 5)
    wanted = {"det_thr": 0.25, "tag_thr": 2.0, "person_thr": 0.125, "refine": False, "keep": "first"}
    wanted |= {"rounded": False, "merge_equal_tags": True, "max_people": 5}
    assert other.grouping == run.Grouping(**wanted) and (other.resize, other.top) == ("twice", 3)


class Fault(Exception):
    pass


def _raise(*_, **__):
    raise Fault


@pytest.mark.parametrize(
    ("task", "place"),
    [
        ("segment", "lite.engine.tasks.stretch_frames"),
        ("segment", "lite.engine.tasks.frame_segments"),
        ("segment", "lite.engine.pipeline.merge_labels"),
        ("segment", "lite.engine.result_writer.draw_labels"),
        ("segment", "lite.engine.result_writer.write_label_map"),
        ("classify", "lite.engine.tasks.fit_classified"),
        ("classify", "lite.engine.tasks.assemble_classes"),
        ("pose-bottom-up", "lite.engine.tasks.fit_frames"),
        ("pose-bottom-up", "lite.engine.tasks.forward"),
        ("pose-bottom-up", "lite.engine.tasks.assemble_people"),
        ("pose-bottom-up", "lite.engine.pipeline.map_pictures"),
        ("pose-bottom-up", "lite.engine.result_writer.write_picture"),
    ],
)
def test_a_fault_of_the_program_ends_the_run(infer, photos, fake, monkeypatch, tmp_path, task, place):
    photos(*[100] * 30)
    monkeypatch.setattr(place, _raise)
    network = fake(task)
    draw = "heatmaps,tags" if task == "pose-bottom-up" else "labels,classes"
    started = time.perf_counter()
    with pytest.raises(Fault):
        infer(network, draw=draw, frame_batch=2)
    assert time.perf_counter() - started < 3 and network.closed
    assert not list((tmp_path / "out").rglob("*.part"))
    assert not json.loads((tmp_path / "out" / "run.json").read_text())["finished"]
