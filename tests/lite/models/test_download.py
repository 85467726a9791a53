"""`models download` and `models verify`: what is kept, what is refused, what is said; no connection is needed.

The weights served are those of the built-in detector, which have the shapes of a published one.
"""

import dataclasses
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from lite.artifact import sha256_of
from lite.cli import main
from lite.errors import CheckpointError, ConfigError, InputError, MissingExtraError, ModelError
from lite.models import download as module
from lite.models.download import download, licence_text, verify, verify_file
from lite.models.download_config import DownloadConfig, VerifyConfig
from lite.models.fetch import TRIES, Progress, fetch
from lite.models.find import find_weights, find_zoo_weights
from lite.models.places import PLACES, Place
from lite.models.zoo import ZOO
from tests.http_server import here, serving

NAME = "rtmdet-nano-person"


@pytest.fixture(scope="module")
def weights() -> Path:
    return find_weights("person-nano.safetensors")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, weights: Path) -> list[bytes]:
    """The row's file at an address; the list holds what the server gives, answer by answer."""
    contents = [weights.read_bytes()]
    place = Place(file="nano.safetensors", url="https://example.org/nano", sha256=sha256_of(weights)[:8])
    monkeypatch.setitem(ZOO, NAME, dataclasses.replace(ZOO[NAME], place=place, weights="nano.safetensors"))

    def give(url: str, part: Path, progress: Progress) -> None:
        assert url == place.url
        with part.open("ab") as file:
            file.write(contents.pop(0)[file.tell() :])

    monkeypatch.setattr(module, "fetch", give)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return contents


def config(folder: Path, **options: bool) -> DownloadConfig:
    return DownloadConfig(name=NAME, checkpoints=str(folder), **options)


def test_every_place_has_a_row_and_a_stored_name() -> None:
    assert set(PLACES) <= set(ZOO)
    assert all(row.place is PLACES.get(row.name) for row in ZOO.values())
    sapiens = [row for row in ZOO.values() if row.place and row.family in ("sapiens", "rtmdet")]
    assert sapiens and all(row.weights == row.place.stored_name for row in sapiens)
    files = [(place.text, place.file) for place in PLACES.values()]
    assert len(files) == len(set(files))


def test_openmmlab_names_give_the_hash() -> None:
    openmmlab = [place for place in PLACES.values() if place.url]
    assert len(openmmlab) >= 15
    assert all(len(place.sha256) == 8 and place.sha256 in place.file for place in openmmlab)
    assert all(place.url.startswith("https://download.openmmlab.com/") for place in openmmlab)
    assert PLACES["vitpose-b-coco17"].sha256 == "216eae50"


@pytest.mark.parametrize(
    "values",
    [
        {"file": "x"},
        {"file": "x", "url": "http://x/x"},
        {"file": "../x", "repository": "a/b"},
        {"file": "x", "repository": "a/b", "save_as": "/x"},
        {"file": "x", "repository": "a/b", "sha256": "123"},
        {"file": "x", "repository": "a/b", "url": "https://x/x"},
    ],
)
def test_a_wrong_place_is_refused(values: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Place(**values)


def test_a_download_is_checked_and_stored(
    served: list[bytes], weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert download(config(tmp_path / "new")) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{NAME}: licence Apache-2.0\n") and sha256_of(weights) in said
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["nano.safetensors"]
    assert served == []
    assert download(config(tmp_path / "new")) == 0  # already there: nothing is asked
    assert "already there" in capsys.readouterr().out
    assert verify(VerifyConfig(name=NAME, checkpoints=str(tmp_path / "new"))) == 0
    assert "as published" in capsys.readouterr().out


def test_force_fetches_again(served: list[bytes], weights: Path, tmp_path: Path) -> None:
    (tmp_path / "nano.safetensors").write_bytes(b"old")
    assert download(config(tmp_path)) == 1
    assert download(config(tmp_path, force=True)) == 0
    assert (tmp_path / "nano.safetensors").read_bytes() == weights.read_bytes()


@pytest.mark.parametrize("wrong", [b"", b"<html>not found</html>", b"\x80\x04."])
def test_a_wrong_file_is_not_kept(
    served: list[bytes], wrong: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served[:] = [wrong]
    assert download(config(tmp_path)) == 1
    assert "expected a SHA-256 that starts with" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_other_tensors_are_refused_where_no_hash_is_published(
    served: list[bytes],
    golden: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = ZOO[NAME]
    monkeypatch.setitem(ZOO, NAME, dataclasses.replace(row, place=dataclasses.replace(row.place, sha256="")))
    for content, expected in [
        ((golden / "sapiens/networks/pose_tiny.pth").read_bytes(), "found a sapiens network"),
        ((golden / "rtmdet/std.pth").read_bytes(), "do not have the sizes of rtmdet-nano-person"),
        (b"\x80\x04\x95cos\nsystem\n", "nano.safetensors"),
    ]:
        served[:] = [content]
        assert download(config(tmp_path)) == 1
        assert expected in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []


def test_a_start_of_another_file_costs_one_more_fetch(served: list[bytes], weights: Path, tmp_path: Path) -> None:
    (tmp_path / ".nano.safetensors.part").write_bytes(b"the start of something else")
    served.append(weights.read_bytes())
    assert download(config(tmp_path)) == 0
    assert (tmp_path / "nano.safetensors").read_bytes() == weights.read_bytes() and served == []


def test_a_broken_connection_is_exit_1_and_keeps_the_part(
    served: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(url: str, part: Path, *_: object) -> None:
        part.write_bytes(b"some")
        raise InputError("the connection ended early, 4 bytes are kept")

    monkeypatch.setattr(module, "fetch", broken)
    assert download(config(tmp_path)) == 1
    assert "4 bytes are kept" in capsys.readouterr().err
    assert (tmp_path / ".nano.safetensors.part").read_bytes() == b"some"


def test_over_a_connection_that_breaks(
    served: list[bytes],
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    content = weights.read_bytes()
    with serving(content) as server:
        monkeypatch.setattr(module, "fetch", lambda _, part, bar: fetch(server.url, part, bar, here, pause_s=0))
        server.breaks = [1000] * TRIES
        assert download(config(tmp_path)) == 1
        assert f"{1000 * TRIES} bytes are kept" in capsys.readouterr().err
        assert download(config(tmp_path)) == 0
        assert server.asked[-1] == f"bytes={1000 * TRIES}-"
        server.content = content[:-1]  # a shorter file on the server: complete, and not the one published
        assert download(config(tmp_path / "other")) == 1
        assert "expected a SHA-256" in capsys.readouterr().err
    assert (tmp_path / "nano.safetensors").read_bytes() == content
    assert list((tmp_path / "other").iterdir()) == []


def test_offline_is_one_sentence(served: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"offline: nano.safetensors is not on this machine"):
        download(config(tmp_path, offline=True))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match="offline"):
        download(config(tmp_path))


def test_a_folder_that_cannot_be_made(served: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        download(config(tmp_path / "file" / "inside"))


def test_rows_without_a_place(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="comes with this package"):
        download(DownloadConfig(name="person-nano"))
    without = next(row for row in ZOO.values() if row.place is None and not row.default)
    with pytest.raises(InputError, match="none is known; get its file from"):
        download(DownloadConfig(name=without.name))
    with pytest.raises(ModelError, match="did you mean rtmdet-nano-person"):
        download(DownloadConfig(name="rtmdet-nano-persn"))


def test_verify(tmp_path: Path, golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "verify", "person-nano"]) == 0
    assert "no published hash" in capsys.readouterr().out
    (tmp_path / "rtmdet_nano_8xb32-100e_coco-obj365-person-05d8511e.pth").write_bytes(b"x")
    assert main(["models", "verify", NAME, "--checkpoints", str(tmp_path)]) == 1
    assert "expected a SHA-256 that starts with 05d8511e" in capsys.readouterr().err
    assert main(["models", "verify", "sapiens-2b-coco17", "--checkpoints", str(tmp_path)]) == 2
    with pytest.raises(CheckpointError, match="found a rtmdet network"):
        verify_file(golden / "rtmdet/std.pth", ZOO["sapiens-2b-goliath308"])


def test_licences_are_said_plainly() -> None:
    assert "NOT for commercial use" in licence_text(ZOO["sapiens-1b-coco17"])
    assert "name no licence" in licence_text(ZOO["hap-b-coco17"])


class Hub:
    """A stand-in for huggingface_hub: a cache of files, and errors under the library's names."""

    def __init__(self, cache: dict[str, Path]) -> None:
        self.cache = cache
        self.asked: list[tuple[object, ...]] = []
        self.problem: Exception | None = None

    def hf_hub_download(
        self, repo_id: str, filename: str, *, revision: str, local_files_only: bool, force_download: bool
    ) -> str:
        self.asked.append((repo_id, filename, revision, local_files_only, force_download))
        if self.problem is not None:
            raise self.problem
        return str(self.cache[filename])


@pytest.fixture
def hub(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    (tmp_path / "config.json").write_text("{}")
    blob = tmp_path / "blob"
    blob.write_bytes(weights.read_bytes())
    (tmp_path / "link").symlink_to(blob)  # as the library's cache has it
    made = Hub({"nano/model.safetensors": tmp_path / "link", "nano/config.json": tmp_path / "config.json"})
    library = ModuleType("huggingface_hub")
    library.hf_hub_download = made.hf_hub_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", library)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    place = Place(
        repository="someone/nano",
        file="nano/model.safetensors",
        revision="v1",
        beside=("nano/config.json",),
        save_as="nano/model.safetensors",
    )
    monkeypatch.setitem(ZOO, NAME, dataclasses.replace(ZOO[NAME], place=place, weights=place.stored_name))
    return made


def test_the_hub_gives_the_file_and_those_beside_it(hub: Hub, weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    assert download(config(folder)) == 0
    stored = folder / "nano/model.safetensors"
    assert stored.read_bytes() == weights.read_bytes() and not stored.is_symlink()
    assert (folder / "nano/config.json").read_text() == "{}"
    assert hub.asked == [
        ("someone/nano", "nano/config.json", "v1", False, False),
        ("someone/nano", "nano/model.safetensors", "v1", False, False),
    ]
    os.utime(stored)
    assert download(config(folder, force=True)) == 0
    assert hub.asked[-1][-1] is True


def named(name: str, *bases: type[Exception]) -> Exception:
    return type(name, bases or (Exception,), {})("what the library says\nat length")


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (named("GatedRepoError"), "hf auth login"),
        (named("RepositoryNotFoundError"), "has no nano/config.json at v1"),
        (named("EntryNotFoundError"), "has no nano/config.json at v1"),
        (named("LocalEntryNotFoundError", type("EntryNotFoundError", (Exception,), {})), "the file did not come"),
        (named("ConnectTimeout", OSError), "what the library says"),
    ],
)
def test_errors_of_the_hub_are_one_sentence(
    hub: Hub, problem: Exception, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.problem = problem
    assert download(config(tmp_path / "checkpoints")) == 1
    said = capsys.readouterr().err
    assert expected in said and said.count("\n") == 1


def test_the_hub_offline(hub: Hub, tmp_path: Path) -> None:
    assert download(config(tmp_path / "checkpoints", offline=True)) == 0  # the cache has it
    assert hub.asked[-1][3] is True
    hub.problem = named("LocalEntryNotFoundError")
    with pytest.raises(ConfigError, match=r"offline: nano/config.json of huggingface.co/someone/nano is not"):
        download(config(tmp_path / "other", offline=True))


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hpe-lite\[hub\]'"):
        download(DownloadConfig(name="sapiens-0.3b-coco17", checkpoints=str(tmp_path)))


def test_the_config_is_checked(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="found a file"):
        DownloadConfig(name="x", checkpoints=str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="found nothing"):
        DownloadConfig(name="")
    with pytest.raises(ConfigError, match="leave one out"):
        DownloadConfig(name="x", offline=True, force=True)
    with pytest.raises(ConfigError, match="found none"):
        VerifyConfig(name="x", checkpoints=str(tmp_path / "no"))


def test_a_downloaded_file_is_found_by_the_model_name(tmp_path: Path) -> None:
    row = ZOO["higherhrnet-w32-coco17"]
    assert row.weights != row.place.stored_name
    with pytest.raises(CheckpointError, match="or run `hpe-lite models download higherhrnet-w32-coco17`"):
        find_zoo_weights(row, tmp_path)
    (tmp_path / row.place.stored_name).touch()
    assert find_zoo_weights(row, tmp_path) == tmp_path / row.place.stored_name
    (tmp_path / row.weights).touch()
    assert find_zoo_weights(row, tmp_path) == tmp_path / row.weights  # what the user put there comes first


def test_the_hash_of_the_place_is_asked_only_of_its_file(
    served: list[bytes], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ZOO, NAME, dataclasses.replace(ZOO[NAME], weights="own.safetensors"))
    place = dataclasses.replace(ZOO[NAME].place, sha256="0" * 8)
    monkeypatch.setitem(ZOO, NAME, dataclasses.replace(ZOO[NAME], place=place))
    (tmp_path / "own.safetensors").write_bytes(weights.read_bytes())
    assert verify(VerifyConfig(name=NAME, checkpoints=str(tmp_path))) == 0
    (tmp_path / "own.safetensors").rename(tmp_path / "nano.safetensors")
    assert verify(VerifyConfig(name=NAME, checkpoints=str(tmp_path))) == 1
