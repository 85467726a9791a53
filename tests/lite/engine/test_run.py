"""Whole runs with fake backends: results, order, bad pictures, and a fault in each stage ends the run."""

import _thread
import json
import os
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

import lite
from lite.config import InferConfig
from lite.engine import run
from lite.engine.pipeline import Pipeline
from lite.errors import ConfigError, InputError


@pytest.fixture
def infer(fake_pose, fake_detector, monkeypatch):
    """`hpe-lite infer` with fake networks."""

    def open_pipeline(config):
        return Pipeline(fake_pose, fake_detector, batch_size=config.batch_size)

    monkeypatch.setattr(run, "open_pipeline", open_pipeline)
    return lambda source, output, **options: run.infer(InferConfig(input=str(source), output=str(output), **options))


@pytest.fixture
def photos(tmp_path, picture):
    """Five pictures of mixed sizes in two folders with 0, 3, 1, 2 and 5 people."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    names = ["1.png", "2.bmp", "10.PNG", "deep/a.png", "deep/b.tif"]
    for i, (name, people) in enumerate(zip(names, [0, 3, 1, 2, 5])):
        pixels = picture(people, h=96 + 8 * i, w=200 - 8 * i, brightness=100 + i)
        cv2.imwrite(str(folder / name), pixels[..., ::-1])
    return folder


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_folder_becomes_one_json_and_one_overlay_a_picture(infer, photos, tmp_path, capsys):
    output = tmp_path / "out"
    assert infer(photos, output, frame_batch=2, batch_size=3) == 0
    stems = ["1", "10", "2", "deep/a", "deep/b"]
    assert _files(output) == sorted([*(f"{s}{e}" for s in stems for e in (".json", ".jpg")), "run.json"])
    results = lite.load_results(output)
    assert [len(result.keypoints) for result in results] == [0, 3, 1, 2, 5]
    assert [Path(result.source).name for result in results] == ["1.png", "2.bmp", "10.PNG", "a.png", "b.tif"]
    assert [result.size_hw for result in results] == [(96 + 8 * i, 200 - 8 * i) for i in range(5)]
    for i, result in enumerate(results):
        assert np.allclose(result.keypoint_scores, (100 + i) / 255, atol=1e-4)
        overlay = cv2.imread(str(output / stems[[0, 2, 1, 3, 4][i]]) + ".jpg")
        assert overlay.shape[:2] == result.size_hw
    report = json.loads((output / "run.json").read_text())
    assert report["finished"] and report["pictures"] == 5 and report["people"] == 11 and report["failed"] == []
    assert report["config"]["frame_batch"] == 2 and report["detector"]["model"] == "fake-detector"
    assert "5 pictures, 11 people, 0 failed" in capsys.readouterr().out


def test_without_drawing_there_are_no_overlays(infer, photos, tmp_path):
    infer(photos, tmp_path / "out", draw="none")
    assert not list((tmp_path / "out").rglob("*.jpg"))


def test_bad_pictures_are_recorded_and_the_rest_goes_on(infer, photos, tmp_path, capsys):
    (photos / "empty.jpg").touch()
    (photos / "text.jpg").write_text("no picture")
    (photos / "folder.jpg").mkdir()
    whole = cv2.imencode(".jpg", np.full((64, 64, 3), 90, np.uint8))[1].tobytes()
    (photos / "half.jpg").write_bytes(whole[: len(whole) // 2])
    output = tmp_path / "out"
    assert infer(photos, output) == 1
    results = {Path(result.source).name: result for result in lite.load_results(output)}
    bad = {name: result.error for name, result in results.items() if result.error}
    assert set(bad) == {"empty.jpg", "text.jpg", "folder.jpg", "half.jpg"}
    assert "empty" in bad["empty.jpg"] and "truncated" in bad["half.jpg"] and "not a picture" in bad["text.jpg"]
    assert all(len(results[name].keypoints) == 0 for name in bad)
    assert not (output / "empty.jpg").exists()  # no overlay of what could not be read
    report = json.loads((output / "run.json").read_text())
    assert report["finished"] and len(report["failed"]) == 4 and report["pictures"] == 9
    assert "4 failed" in capsys.readouterr().out


def test_all_pictures_bad(infer, tmp_path):
    (tmp_path / "in").mkdir()
    for n in range(40):
        (tmp_path / "in" / f"{n}.jpg").touch()
    assert infer(tmp_path / "in", tmp_path / "out", frame_batch=4) == 1
    assert len(lite.load_results(tmp_path / "out")) == 40


def test_running_again_gives_the_same_files(infer, photos, tmp_path):
    output = tmp_path / "out"
    infer(photos, output)
    first = {name: (output / name).read_bytes() for name in _files(output) if name != "run.json"}
    infer(photos, output, frame_batch=1, batch_size=1)
    assert first == {name: (output / name).read_bytes() for name in _files(output) if name != "run.json"}


def test_nothing_to_read_is_said_before_anything_is_written(infer, tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match=r"found no pictures; expected files ending in \.jpg"):
        infer(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", [".", "results"])
def test_never_writes_into_the_input_folder(infer, photos, place):
    before = _files(photos)
    with pytest.raises(ConfigError, match=r"output: .* the input folder or inside it"):
        infer(photos, photos / place)
    assert _files(photos) == before


def test_output_that_cannot_be_a_folder(infer, photos, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ConfigError, match="output: expected a folder, found the file"):
        infer(photos, tmp_path / "out")


class Fault(Exception):
    pass


def _raise(*_, **__):
    raise Fault


FAULTS = {
    "read": lambda patch, pose, person: patch.setattr(run, "read_frame", _raise),
    "detect": lambda patch, pose, person: patch.setattr(person, "run", _raise),
    "crop": lambda patch, pose, person: patch.setattr("lite.engine.tasks.crop", _raise),
    "forward": lambda patch, pose, person: patch.setattr(pose, "run", _raise),
    "assemble": lambda patch, pose, person: patch.setattr("lite.engine.pipeline.to_records", _raise),
    "draw": lambda patch, pose, person: patch.setattr("lite.engine.result_writer.draw", _raise),
    "overlay": lambda patch, pose, person: patch.setattr("lite.engine.result_writer.write_overlay", _raise),
    "write": lambda patch, pose, person: patch.setattr("lite.writers.records.write_bytes", _raise_after_run_file),
}


def _raise_after_run_file(path, data):
    if path.name != "run.json":
        raise Fault


@pytest.mark.parametrize("stage", FAULTS)
def test_a_fault_of_the_program_ends_the_run_within_seconds(
    infer, stage, tmp_path, picture, fake_pose, fake_detector, monkeypatch
):
    folder = tmp_path / "in"
    folder.mkdir()
    for n in range(60):
        cv2.imwrite(str(folder / f"{n}.bmp"), picture(2)[..., ::-1])
    FAULTS[stage](monkeypatch, fake_pose, fake_detector)
    started = time.perf_counter()
    with pytest.raises(Fault):
        infer(folder, tmp_path / "out", frame_batch=2)
    assert time.perf_counter() - started < 3
    assert fake_pose.closed and fake_detector.closed
    assert not list((tmp_path / "out").rglob("*.part"))


def test_an_interruption_ends_at_once_and_keeps_what_is_done(infer, photos, tmp_path, fake_pose, monkeypatch):
    run_network = fake_pose.run

    def interrupt(pixels):
        if len(fake_pose.batches) == 2:
            _thread.interrupt_main()  # Ctrl-C while the main thread waits for its workers
            time.sleep(0.6)
        return run_network(pixels)

    monkeypatch.setattr(fake_pose, "run", interrupt)
    started = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        infer(photos, tmp_path / "out", frame_batch=1, threads=1)
    assert time.perf_counter() - started < 3
    assert [len(result.keypoints) for result in lite.load_results(tmp_path / "out")] == [0, 3, 1]
    assert not json.loads((tmp_path / "out" / "run.json").read_text())["finished"]


def test_many_workers_give_the_same_results_as_one(infer, photos, tmp_path):
    for threads in (1, 8):
        infer(photos, tmp_path / str(threads), frame_batch=1, threads=threads)
    names = [name for name in _files(tmp_path / "1") if name != "run.json"]
    assert len(names) == 10
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "8" / name).read_bytes()


def test_a_full_disk_stops_the_run_with_one_sentence(infer, photos, tmp_path, monkeypatch):
    write_bytes = Path.write_bytes
    count = iter(range(100))

    def full_after_three_files(path, data):
        if next(count) >= 3:
            write_bytes(path, data[: len(data) // 2])
            raise OSError(28, os.strerror(28))
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", full_after_three_files)
    with pytest.raises(ConfigError, match="No space left on device"):
        infer(photos, tmp_path / "out", frame_batch=1)
    for path in (tmp_path / "out").rglob("*.json"):
        json.loads(path.read_text())
    assert not list((tmp_path / "out").rglob("*.part"))
