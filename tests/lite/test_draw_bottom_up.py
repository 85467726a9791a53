"""Heatmaps lie where they should on the picture, colours mean one thing, people are told apart."""

import numpy as np
import pytest

from lite.bottom_up import fit_short_side
from lite.draw_bottom_up import LARGEST_GRID_PX, draw_maps, draw_tags, heat_colors, person_colors
from lite.geometry import invert_affine, transform_points


def test_colour_scale_does_not_wrap() -> None:
    ramp = heat_colors(np.linspace(0, 1, 101)[None], 0, 1)[0].astype(int)
    assert ramp[0].tolist() == [0, 0, 128] and ramp[-1].tolist() == [128, 0, 0]
    assert ramp[50, 1] > 200  # green in the middle
    beyond = heat_colors(np.array([[-5.0, 7.0, np.nan]]), 0, 1)[0]
    assert beyond.tolist() == [ramp[0].tolist(), ramp[-1].tolist(), ramp[0].tolist()]
    assert heat_colors(np.full((1, 1), 3.0), 3, 3).shape == (1, 1, 3)


@pytest.mark.parametrize(("size_hw", "place"), [((120, 200), (150, 30)), ((300, 100), (20, 250))])
def test_a_peak_lies_where_the_network_saw_it(size_hw: tuple[int, int], place: tuple[int, int]) -> None:
    input_hw, to_input = fit_short_side(size_hw, 128, 64)
    x, y = transform_points(np.array([place]), to_input)[0]
    maps = np.zeros((2, input_hw[0] // 2, input_hw[1] // 2), np.float32)
    rows, columns = np.mgrid[: maps.shape[1], : maps.shape[2]]
    maps[1] = np.exp(-(((columns * 2 + 0.5 - x) ** 2 + (rows * 2 + 0.5 - y) ** 2) / 50))
    black = np.zeros((*size_hw, 3), np.uint8)
    grid = draw_maps(black, maps, ["nose", "ear"], invert_affine(to_input), input_hw, opacity=1.0)
    second = grid[: size_hw[0], -size_hw[1] :].astype(int)
    red = second[..., 0] - second[..., 2]
    found = np.argwhere(red == red.max()).mean(axis=0)[::-1]
    np.testing.assert_allclose(found, place, atol=1.5)
    assert (grid[: size_hw[0], : size_hw[1]] == [0, 0, 128]).all()  # nothing in the first map


def test_noise_of_an_empty_map_stays_dark() -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, (1, 32, 32)).astype(np.float32)
    tile = draw_maps(np.zeros((64, 64, 3), np.uint8), noise, ["a"], np.eye(2, 3), (64, 64), opacity=1.0)[:64]
    assert tile[..., 0].max() == 0 and tile[..., 2].min() >= 128


def test_a_map_of_nan_is_dark() -> None:
    maps = np.full((1, 16, 16), np.nan, np.float32)
    tile = draw_maps(np.zeros((64, 64, 3), np.uint8), maps, ["a"], np.eye(2, 3), (64, 64), opacity=1.0)[:64]
    assert (tile == [0, 0, 128]).all()


def test_pictures_show_through_and_are_not_changed() -> None:
    pixels = np.full((40, 60, 3), 200, np.uint8)
    grid = draw_maps(pixels, np.zeros((1, 8, 16), np.float32), ["a"], np.eye(2, 3) * 1.0, (32, 64), opacity=0.5)
    assert (pixels == 200).all()
    assert grid[10, 10].tolist() == [100, 100, 164]
    assert grid[38, 30].tolist() == [200, 200, 200]  # beyond the input nothing was seen


@pytest.mark.parametrize("count", [0, 1, 17, 308])
def test_grids_of_any_number_of_maps(count: int) -> None:
    pixels = np.zeros((300, 500, 3), np.uint8)
    maps = np.zeros((count, 16, 16), np.float32)
    grid = draw_maps(pixels, maps, [f"keypoint {n}" for n in range(count)], np.eye(2, 3), (64, 64))
    assert grid.dtype == np.uint8 and grid.shape[2] == 3
    assert 1 <= grid.shape[0] <= LARGEST_GRID_PX and 1 <= grid.shape[1] <= LARGEST_GRID_PX


def test_people_stand_in_columns_of_their_colour() -> None:
    tags = np.repeat(np.array([[-3.0], [3.0]], np.float32)[:, None], 5, axis=1)
    plot = draw_tags(tags, np.ones((2, 5)), list("abcde"))
    assert plot.shape == (640, 640, 3)
    first, second = (np.argwhere((plot == color).all(axis=2)) for color in person_colors(2))
    assert first[:, 1].max() < second[:, 1].min()
    assert len(np.unique(first[:, 1])) < 40 < len(np.unique(first[:, 0]))  # one column, five places in it


def test_only_keypoints_with_tags_are_drawn() -> None:
    tags = np.array([[[1.0, 5.0], [0.0, 0.0], [2.0, np.nan]]], np.float32)
    empty = draw_tags(tags, np.array([[0.0, 0.5, 0.5]]), list("abc"))
    assert empty.shape == (640, 1280, 3)
    color = person_colors(1)[0]
    assert not (empty == color).all(axis=2).any()
    assert (draw_tags(tags, np.full((1, 3), 0.5), list("abc")) == color).all(axis=2).any()
    nobody = draw_tags(np.zeros((0, 3, 1), np.float32), np.zeros((0, 3)), list("abc"))
    assert nobody.shape == (640, 640, 3)


def test_thirty_people_have_thirty_colours() -> None:
    assert len(set(person_colors(30))) == 30
