"""What the plain vision transformers of Sapiens and ViTPose share: attention, position embeddings, size reading.

The two trunks differ in names and in how a position is added, so each family spells out its own.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lite.artifact import OutputSpec
from lite.errors import CheckpointError

MEAN = (123.675, 116.28, 103.53)  # RGB, 0..255
STD = (58.395, 57.12, 57.375)
PATCH = 16
LAYER_NORM_EPS = 1e-6
# Aspects (rows : columns) of token grids in use. No number of tokens fits two of them, because no two of the products
# 12, 1, 2, 6, 20 have a square ratio. A square grid is a pre-training file, 2:1 is HAP's.
GRID_ASPECTS = ((4, 3), (1, 1), (2, 1), (3, 2), (5, 4))


class Attention(nn.Module):
    """Full self-attention; the rows of `qkv` are ordered q, k, v, then head. Scale head_dim**-0.5."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.num_heads, c // self.num_heads)  # (B, N, 3, heads, dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, N, dim)
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c)
        return self.proj(x)  # (B, N, C)


def tokens_to_map(tokens: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """(B, h*w, C) row-major tokens -> (B, C, h, w)."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], *grid_hw)


def resize_grid(pos: Tensor, source_hw: tuple[int, int], target_hw: tuple[int, int]) -> Tensor:
    """Resize position embeddings as upstream does: bicubic in float32, align_corners False, no antialiasing.

    Args:
        pos: (1, h*w, C) of the source grid, row-major, without a class row.

    Returns:
        (1, H*W, C) of the target grid in the dtype of `pos`; `pos` itself when the grids are equal.
    """
    if tuple(source_hw) == tuple(target_hw):
        return pos
    grid = tokens_to_map(pos.float(), source_hw)
    grid = F.interpolate(grid, size=target_hw, mode="bicubic", align_corners=False)
    return grid.flatten(2).transpose(1, 2).to(pos.dtype)


def known_grid(num_tokens: int) -> tuple[int, int] | None:
    """The token grid that has this many cells in one of the aspects in use, or None."""
    for rows, columns in GRID_ASPECTS:
        side = round((num_tokens / (rows * columns)) ** 0.5)
        if side > 0 and side * side * rows * columns == num_tokens:
            return side * rows, side * columns
    return None


def split_positions(
    pos: Tensor, has_class_token: bool, target_hw: tuple[int, int] | None, known_hw: tuple[int, int] | None = None
) -> tuple[Tensor | None, Tensor, tuple[int, int]]:
    """Tell the class row and the grid of stored position embeddings.

    Upstream assumes a square grid and takes an odd number of rows as the sign of a class row; both fail for grids that
    were fine-tuned (64 x 48) or odd (5 x 3). Here the grid the file names comes first, then the target, then aspects
    in use; a class row is looked for first where the file has a class token, and last where it has none.

    Args:
        pos: (1, N, C) as stored.
        has_class_token: whether the file also holds a `cls_token`.
        target_hw: grid that is wanted, if any.
        known_hw: grid the file was trained at, if it is known.

    Returns:
        class row (1, 1, C) or None; grid rows (1, h*w, C); their (h, w).

    Raises:
        CheckpointError: of another shape, or the number of rows fits no grid.
    """
    if pos.ndim != 3 or pos.shape[0] != 1 or not pos.numel():
        raise CheckpointError(f"expected position embeddings of shape (1, N, C), found {tuple(pos.shape)}")
    rows = pos.shape[1]
    for class_rows in (1, 0) if has_class_token else (0, 1):
        cells = rows - class_rows
        fitting = [hw for hw in (known_hw, target_hw) if hw is not None and hw[0] * hw[1] == cells]
        grid_hw = fitting[0] if fitting else known_grid(cells)
        if grid_hw is not None:
            return (pos[:, :1] if class_rows else None), pos[:, class_rows:], grid_hw
    raise CheckpointError(
        f"expected position embeddings of a token grid of aspect 4:3, 1:1, 2:1, 3:2 or 5:4, found {rows} rows; "
        "load it at the input size it was trained with"
    )


def input_grid(input_hw: tuple[int, int], patch_padding: int) -> tuple[int, int]:
    """Token grid of an input of `input_hw` px: with patch padding 2 floor((n - 12) / 16) + 1, with 0 ceil(n / 16)."""
    if patch_padding == 0:
        return -(-input_hw[0] // PATCH), -(-input_hw[1] // PATCH)
    return tuple((side + 2 * patch_padding - PATCH) // PATCH + 1 for side in input_hw)


def check_input_hw(input_hw: tuple[int, int] | None) -> None:
    """Refuse an input that is not made of whole patches: its heatmap would not cover the crop.

    Raises:
        CheckpointError: a side is no multiple of 16.
    """
    if input_hw is not None and any(side < PATCH or side % PATCH for side in input_hw):
        raise CheckpointError(
            f"expected an input size in multiples of {PATCH}, found {tuple(input_hw)}; choose another"
        )


def count_blocks(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many of `<prefix>0.`, `<prefix>1.`, ... the names reach.

    A number above that of all tensors is no block's: a crafted name would have a network of millions of them built.
    """
    numbers = {name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)}
    plausible = {str(number) for number in range(len(state))}
    return 1 + max(map(int, numbers & plausible), default=-1)


def read_num_heads(width: int, published: Mapping[int, int], meta: Mapping[str, Any], named: int | None = None) -> int:
    """Number of attention heads, which no tensor shows.

    In order: what the zoo row says (`named`), what the file says (`hpe_lite_hints`, `meta["num_heads"]`), the published
    network of this width, and for a width nobody published: heads of 64 from width 192 on, below that 4 heads, or 2
    below width 32.

    Raises:
        CheckpointError: the width cannot be divided by that number.
    """
    hinted = meta.get("hpe_lite_hints", {}).get("num_heads") or meta.get("num_heads")
    by_rule = width // 64 if width >= 192 else 4 if width >= 32 else 2
    heads = named or hinted or published.get(width) or by_rule
    if not isinstance(heads, int) or heads < 1 or width % heads:
        raise CheckpointError(
            f"expected a number of attention heads that divides the width {width}, found {heads!r}; "
            "name the model, or store it in meta['num_heads']"
        )
    return heads


class Sizes(Protocol):
    """What `hints` asks of a family's numbers."""

    num_heads: int
    grid_hw: tuple[int, int]


def hints(sizes: Sizes) -> dict[str, Any]:
    """What the tensors of a trunk do not show; stored beside them by `save_network`."""
    return {"num_heads": sizes.num_heads, "grid_hw": list(sizes.grid_hw)}


def pose_outputs(num_keypoints: int) -> tuple[OutputSpec, OutputSpec]:
    """What the pixel graph of a heatmap network returns."""
    return (
        OutputSpec(name="keypoints", shape=("N", num_keypoints, 2), dtype="float32", unit="crop px"),
        OutputSpec(name="scores", shape=("N", num_keypoints), dtype="float32", unit="0..1"),
    )


def init_linear(module: nn.Module) -> None:
    """The usual start of a vision transformer: linear weights truncated normal 0.02, biases 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
            nn.init.zeros_(part.bias)


def empty_positions(num_rows: int, width: int) -> nn.Parameter:
    """Learned position embeddings (1, num_rows, width), truncated normal 0.02."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(1, num_rows, width), std=0.02))
