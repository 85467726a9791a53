"""Files of an artifact arrive together or not at all, and nothing of somebody else's is lost."""

import errno
import json
import os
from pathlib import Path

import pytest

from export.place import check_place, move_in, workshop
from lite.artifact import ArtifactSpec, spec_path, write_spec
from lite.errors import ConfigError

SPEC = ArtifactSpec(task="pose", model="x", input_hw=(64, 48), mean=(0.0,) * 3, std=(1.0,) * 3)
NAMES = ["x.bin", "x.xml", "x.xml.json"]


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def make(folder: Path, names: list[str], text: str) -> None:
    for name in names:
        (folder / name).write_text(text)


def test_all_files_arrive(tmp_path: Path) -> None:
    output = tmp_path / "x.xml"
    check_place(output, overwrite=False)
    with workshop(output) as folder:
        make(folder, NAMES, "new")
        move_in(folder, NAMES, output, overwrite=False)
    assert files(tmp_path) == dict.fromkeys(NAMES, "new")


def test_overwriting_takes_away_what_the_old_one_had_besides(tmp_path: Path) -> None:
    output = tmp_path / "x.xml"
    make(tmp_path, ["x.xml", "x.old.data", "y.bin"], "old")
    stolen = {"x.old.data": "0" * 64, "y.bin": "0" * 64}
    write_spec(output, ArtifactSpec(**{**SPEC.__dict__, "companions": stolen}))
    with workshop(output) as folder:
        make(folder, NAMES, "new")
        move_in(folder, NAMES, output, overwrite=True)
    assert files(tmp_path) == {**dict.fromkeys(NAMES, "new"), "y.bin": "old"}


@pytest.mark.parametrize("problem", [PermissionError("no"), KeyboardInterrupt()])
@pytest.mark.parametrize("at", range(6))
def test_a_failure_on_the_way_leaves_all_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, problem: BaseException
) -> None:
    output = tmp_path / "x.xml"
    make(tmp_path, NAMES, "old")
    replace, calls = os.replace, []

    def fails(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == at + 1:
            raise problem
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(type(problem)), workshop(output) as folder:
        make(folder, NAMES, "new")
        move_in(folder, NAMES, output, overwrite=True)
    assert files(tmp_path) == dict.fromkeys(NAMES, "old")
    assert calls[0].name == "x.xml.json"  # without its description a mixture would be refused


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_overwritten_unasked(tmp_path: Path, name: str) -> None:
    output = tmp_path / "x.xml"
    make(tmp_path, [name], "mine")
    with pytest.raises(ConfigError, match=f"{name} is there already; .*--overwrite"), workshop(output) as folder:
        make(folder, NAMES, "new")
        move_in(folder, NAMES, output, overwrite=False)
    assert files(tmp_path) == {name: "mine"}
    if name != "x.bin":
        with pytest.raises(ConfigError, match="is there already"):
            check_place(output, overwrite=False)


def test_a_folder_in_the_way_is_never_replaced(tmp_path: Path) -> None:
    output = tmp_path / "x.xml"
    (tmp_path / "x.bin").mkdir()
    with pytest.raises(ConfigError, match=r"found the folder .*x\.bin"), workshop(output) as folder:
        make(folder, NAMES, "new")
        move_in(folder, NAMES, output, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["x.bin"]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "x.xml"
    with pytest.raises(ConfigError, match="found the disk full; free some space"), workshop(output) as folder:
        make(folder, NAMES, "half")
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(RuntimeError, match="else"), workshop(output):
        raise RuntimeError("something else")
    usage = os.statvfs(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 0, "all": usage}))
    with pytest.raises(ConfigError, match="disk full"), workshop(output):
        raise RuntimeError("PytorchStreamWriter failed writing file")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_description_of_the_old_one_is_no_obstacle(tmp_path: Path) -> None:
    output = tmp_path / "x.xml"
    spec_path(output).write_text(json.dumps({"schema": "another"}))
    with workshop(output) as folder:
        make(folder, NAMES, "new")
        move_in(folder, NAMES, output, overwrite=True)
    assert files(tmp_path) == dict.fromkeys(NAMES, "new")
