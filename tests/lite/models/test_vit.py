"""Position embeddings and head counts: the parts upstream gets wrong outside its own sizes."""

import pytest
import torch

from lite.errors import CheckpointError
from lite.models.vit import Attention, input_grid, known_grid, read_num_heads, resize_grid, split_positions


@pytest.mark.parametrize(
    ("cells", "grid_hw"),
    [
        (3072, (64, 48)),
        (192, (16, 12)),
        (432, (24, 18)),
        (12, (4, 3)),
        (4096, (64, 64)),
        (196, (14, 14)),
        (128, (16, 8)),
    ],
)
def test_known_grids(cells: int, grid_hw: tuple[int, int]) -> None:
    assert known_grid(cells) == grid_hw


def test_no_number_of_cells_fits_two_aspects() -> None:
    grids: dict[int, set[tuple[int, int]]] = {}
    for rows, columns in ((4, 3), (1, 1), (2, 1), (3, 2), (5, 4)):
        for side in range(1, 80):
            grids.setdefault(side * side * rows * columns, set()).add((side * rows, side * columns))
    assert all(len(found) == 1 for found in grids.values())


@pytest.mark.parametrize(
    ("rows", "has_class_token", "target_hw", "known_hw", "class_rows", "grid_hw"),
    [
        (4097, True, (64, 48), None, 1, (64, 64)),  # pre-training file
        (4096, True, (64, 48), None, 0, (64, 64)),  # its class row removed, its class token left
        (3072, False, None, None, 0, (64, 48)),  # fine-tuned
        (3072, False, (32, 24), None, 0, (64, 48)),  # fine-tuned, to another resolution: upstream assumes a square
        (15, False, (5, 3), None, 0, (5, 3)),  # odd grid: upstream drops a token
        (15, False, (4, 3), (5, 3), 0, (5, 3)),  # the same, to another resolution, its grid known
        (193, True, None, None, 1, (16, 12)),
        (129, True, (16, 12), None, 1, (16, 8)),
        (13, False, (4, 3), None, 1, (4, 3)),
        (12, False, (3, 4), (4, 3), 0, (4, 3)),  # what the file says goes before what is wanted
    ],
)
def test_positions_are_split_into_class_row_and_grid(
    rows: int,
    has_class_token: bool,
    target_hw: tuple[int, int] | None,
    known_hw: tuple[int, int] | None,
    class_rows: int,
    grid_hw: tuple[int, int],
) -> None:
    pos = torch.arange(rows, dtype=torch.float32).view(1, rows, 1)
    class_row, grid, found_hw = split_positions(pos, has_class_token, target_hw, known_hw)
    assert found_hw == grid_hw
    assert grid.shape[1] == grid_hw[0] * grid_hw[1] == rows - class_rows
    assert grid[0, 0, 0] == class_rows
    assert (class_row is None) == (class_rows == 0)


def test_positions_of_no_grid_are_refused() -> None:
    with pytest.raises(CheckpointError, match="found 23 rows"):
        split_positions(torch.zeros(1, 23, 4), False, (4, 3))


def test_resize_keeps_equal_grids_and_dtype() -> None:
    pos = torch.randn(1, 12, 8)
    assert resize_grid(pos, (4, 3), (4, 3)) is pos
    half = resize_grid(pos.bfloat16(), (4, 3), (6, 4))
    assert half.dtype == torch.bfloat16 and half.shape == (1, 24, 8)
    assert torch.equal(half, resize_grid(pos.bfloat16().float(), (4, 3), (6, 4)).bfloat16())


def test_resize_does_not_mix_rows_and_columns() -> None:
    rows = torch.arange(4.0).repeat_interleave(3).view(1, 12, 1)  # grid 4 x 3, value = row
    resized = resize_grid(rows, (4, 3), (4, 6)).view(4, 6)
    assert torch.allclose(resized, torch.arange(4.0).view(4, 1).expand(4, 6), atol=1e-5)


@pytest.mark.parametrize(
    ("input_hw", "padding", "grid_hw"),
    [((1024, 768), 2, (64, 48)), ((1024, 768), 0, (64, 48)), ((1000, 760), 2, (62, 47)), ((1000, 760), 0, (63, 48))],
)
def test_input_grid(input_hw: tuple[int, int], padding: int, grid_hw: tuple[int, int]) -> None:
    assert input_grid(input_hw, padding) == grid_hw


def test_number_of_heads() -> None:
    published = {1024: 16, 1920: 32}
    assert read_num_heads(1920, published, {}) == 32
    assert read_num_heads(64, published, {}) == 4
    assert read_num_heads(16, published, {}) == 2
    assert read_num_heads(192, published, {}) == 3
    assert read_num_heads(1024, published, {"num_heads": 8}) == 8
    assert read_num_heads(1024, published, {"hpe_lite_hints": {"num_heads": 32}}) == 32
    assert read_num_heads(1024, published, {"num_heads": 8}, named=16) == 16
    with pytest.raises(CheckpointError, match="divides the width 100"):
        read_num_heads(100, published, {"num_heads": 7})


def test_attention_is_softmax_of_scaled_products() -> None:
    """Head dimension 60, as in the 2b network, and the order q, k, v, then head."""
    torch.manual_seed(0)
    attention = Attention(120, 2).eval()
    x = torch.randn(2, 5, 120)
    q, k, v = attention.qkv(x).split(120, dim=2)
    heads = []
    for part in (slice(0, 60), slice(60, 120)):
        weights = (q[..., part] @ k[..., part].transpose(1, 2) / 60**0.5).softmax(2)
        heads.append(weights @ v[..., part])
    torch.testing.assert_close(attention(x), attention.proj(torch.cat(heads, 2)))
