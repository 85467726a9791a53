"""Where results go: stable, without collisions, never among sources."""

from pathlib import Path

import pytest

from lite.engine.outputs import plan_outputs
from lite.errors import ConfigError
from lite.readers import Item, list_pictures


def _plan(names, root="photos"):
    items = [Item(path=Path(root, name), name=name, root=Path(root)) for name in names]
    return [path.relative_to("out").as_posix() for path in plan_outputs(items, Path("out"), [])]


def test_results_keep_the_relative_place():
    assert _plan(["1.jpg", "a/b/2.png", "a/x.y.jpeg"]) == ["1", "a/b/2", "a/x.y"]


def test_names_that_would_collide_are_kept_in_full():
    assert _plan(["a.jpg", "a.png", "b.jpg"]) == ["a.jpg", "a.png", "b"]
    assert _plan(["a.jpg", "A.JPEG", "d/a.jpg"]) == ["a.jpg", "A.JPEG", "d/a"]
    assert _plan(["a.jpg", "a.png", "a.jpg.png"]) == ["a.jpg", "a.png", "a.jpg.png"]


def test_names_of_the_run_itself_and_of_folders_are_taken():
    assert _plan(["run.jpg", "d/run.jpg"]) == ["run.jpg", "d/run"]
    assert _plan(["a.png", "a.jpg/b.png", "a.json/c.png"]) == ["a.png", "a.jpg/b", "a.json/c"]


def test_pictures_that_differ_in_capitals_alone():
    stems = _plan(["a.jpg", "A.jpg"])
    assert len({stem.casefold() for stem in stems}) == 2


def test_two_inputs_with_equal_names(tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.jpg").touch()
    items = list_pictures([tmp_path / "x", tmp_path / "y"])
    assert plan_outputs(items, tmp_path / "out", []) == [tmp_path / "out/x/1.jpg", tmp_path / "out/y/1.jpg"]


def test_results_never_land_beside_a_source(tmp_path):
    (tmp_path / "a.png").touch()
    items = list_pictures([tmp_path / "a.png"])
    with pytest.raises(ConfigError, match="where pictures are; choose another folder"):
        plan_outputs(items, tmp_path, [str(tmp_path / "a.png")])


def test_an_output_above_the_input_is_fine(tmp_path):
    (tmp_path / "data" / "photos").mkdir(parents=True)
    (tmp_path / "data" / "photos" / "a.png").touch()
    photos = tmp_path / "data" / "photos"
    assert plan_outputs(list_pictures([photos]), tmp_path / "data", [str(photos)]) == [tmp_path / "data" / "a"]


def test_an_input_folder_reached_through_a_link_is_recognised(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    with pytest.raises(ConfigError, match="is the input folder or inside it"):
        plan_outputs([], tmp_path / "link" / "results", [str(tmp_path / "photos")])


def test_names_too_long_for_an_ending_are_cut_and_stay_apart():
    stems = _plan(["あ" * 83 + "a.jpg", "あ" * 83 + "b.jpg", "x" * 6000 + ".jpg"])
    assert len(set(stems)) == 3 and stems[0].startswith("あ" * 77)
    assert all(len(f"{stem}.json".encode()) <= 255 for stem in stems)


def test_a_listed_folder_without_a_name_has_a_place_as_well():
    assert _plan(["."]) == ["unnamed"]


def test_a_file_that_no_run_wrote_is_kept(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").touch()
    (tmp_path / "a.jpg").touch()
    arguments = (list_pictures([tmp_path / "photos"]), tmp_path, [str(tmp_path / "photos")])
    with pytest.raises(ConfigError, match=r"a\.jpg is there already and not from an earlier run"):
        plan_outputs(*arguments)
    (tmp_path / "run.json").touch()  # an earlier run was here: its results may be replaced
    assert plan_outputs(*arguments) == [tmp_path / "a"]
