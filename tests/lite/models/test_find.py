"""From names to files."""

from pathlib import Path

import pytest

from lite.errors import CheckpointError, ModelError
from lite.models.find import (
    find_weights,
    find_zoo_weights,
    look_for,
    look_for_zoo_weights,
    resolve_model,
    search_folders,
    zoo_row,
)
from lite.models.zoo import ZOO


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    made = {name: tmp_path / name for name in ("given", "env", "checkpoints")}
    for folder in made.values():
        folder.mkdir()
    monkeypatch.setenv("HPE_LITE_CHECKPOINTS", str(made["env"]))
    monkeypatch.chdir(tmp_path)
    return made


def test_folders_are_searched_in_order(folders: dict[str, Path]) -> None:
    for name in ("checkpoints", "env", "given"):
        (folders[name] / "w.pth").write_text(name)
        assert find_weights("w.pth", folders["given"]).read_text() == name
    assert find_weights("w.pth").read_text() == "env"


def test_without_settings_the_package_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HPE_LITE_CHECKPOINTS", raising=False)
    assert [folder.name for folder in search_folders()] == ["checkpoints", "default_weights", "checkpoints"]
    monkeypatch.setenv("HPE_LITE_CHECKPOINTS", "")
    assert len(search_folders()) == 3


def test_missing_weights_are_answered_with_the_folders(folders: dict[str, Path]) -> None:
    assert look_for("none.pth") is None
    with pytest.raises(CheckpointError) as caught:
        find_weights("none.pth", folders["given"])
    assert all(str(folders[name]) in str(caught.value) for name in ("given", "env"))
    with pytest.raises(CheckpointError, match=r"source: .*, licence CC-BY-NC-4.0"):
        find_zoo_weights(ZOO["sapiens-2b-coco17"])
    with pytest.raises(CheckpointError, match="no fixed name; get it from"):
        find_zoo_weights(ZOO["vitpose-b-coco17"])


@pytest.mark.parametrize(
    ("typed", "near"),
    [("sapeins-0.3b-coco17", "sapiens-0.3b-coco17"), ("person_nano", "person-nano"), ("pose17", "pose17-small")],
)
def test_near_miss(typed: str, near: str) -> None:
    with pytest.raises(ModelError) as caught:
        resolve_model(typed)
    assert str(caught.value) == f"unknown model {typed!r}; did you mean {near}? run `hpe-lite models` for the list"


def test_nothing_near() -> None:
    with pytest.raises(ModelError, match=r"unknown model 'zzz'; run `hpe-lite models`"):
        zoo_row("zzz")


def test_resolve(folders: dict[str, Path]) -> None:
    assert resolve_model("person-nano") == ("zoo", ZOO["person-nano"])
    checkpoint = folders["env"] / "w.pth"
    checkpoint.touch()
    assert resolve_model(checkpoint) == ("checkpoint", checkpoint)
    assert resolve_model("w.pth") == ("checkpoint", checkpoint)
    for name in ("a.onnx", "a.xml", "A.ENGINE"):
        artifact = folders["given"] / name
        artifact.touch()
        assert resolve_model(str(artifact)) == ("artifact", artifact)
    for name in ("b.bin", "a.pt2"):  # others publish weights as .pt2
        described = folders["given"] / name
        described.touch()
        assert resolve_model(described) == ("checkpoint", described)
        Path(f"{described}.json").touch()
        assert resolve_model(described) == ("artifact", described)


@pytest.mark.parametrize("missing", ["none.pth", "folder/none", "a.pt2"])
def test_missing_file(folders: dict[str, Path], missing: str) -> None:
    with pytest.raises(ModelError, match="no such file"):
        resolve_model(missing)


def test_folder(folders: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match="found a folder without"):
        resolve_model(folders["given"])


def test_weights_under_the_name_of_their_model_are_found(tmp_path: Path) -> None:
    row = zoo_row("hap-b-coco17")
    assert row.weights is None and look_for_zoo_weights(row, tmp_path) is None
    file = tmp_path / "hap-b-coco17.pth"
    file.write_bytes(b"weights")
    assert find_zoo_weights(row, tmp_path) == file
