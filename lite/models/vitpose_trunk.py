"""The trunk of ViTPose and HAP: patches, learned positions, pre-norm blocks, final norm.

Source: ViTPose mmpose/models/backbones/vit.py.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from lite.models.vit import (
    LAYER_NORM_EPS,
    PATCH,
    Attention,
    empty_positions,
    init_linear,
    resize_grid,
    tokens_to_map,
)

PATCH_PADDING = 2


@dataclass(frozen=True, kw_only=True)
class TrunkSizes:
    """The numbers that make a trunk; `grid_hw` is the token grid its position embeddings are for.

    `layer_norm_eps` differs in files of transformers, whose default is 1e-12.
    """

    width: int
    depth: int
    num_heads: int
    hidden: int
    grid_hw: tuple[int, int] = (16, 12)
    layer_norm_eps: float = LAYER_NORM_EPS


SIZES = {
    "s": TrunkSizes(width=384, depth=12, num_heads=12, hidden=1536),
    "b": TrunkSizes(width=768, depth=12, num_heads=12, hidden=3072),
    "l": TrunkSizes(width=1024, depth=24, num_heads=16, hidden=4096),
    "h": TrunkSizes(width=1280, depth=32, num_heads=16, hidden=5120),
}
HEADS_BY_WIDTH = {sizes.width: sizes.num_heads for sizes in SIZES.values()}


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, sizes: TrunkSizes) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(sizes.width, eps=sizes.layer_norm_eps)
        self.attn = Attention(sizes.width, sizes.num_heads)
        self.norm2 = nn.LayerNorm(sizes.width, eps=sizes.layer_norm_eps)
        self.mlp = Mlp(sizes.width, sizes.hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))  # (B, N, C)


class PatchEmbed(nn.Module):
    """16 x 16 patches, padded by 2, to tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=PATCH, stride=PATCH, padding=PATCH_PADDING)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        x = self.proj(x)  # (B, C, h, w)
        return x.flatten(2).transpose(1, 2), (x.shape[2], x.shape[3])


class ViTPoseTrunk(nn.Module):
    """Tokens, learned positions, blocks, final norm.

    There is no class token, but its position row exists and is added to every token. Another input size than the
    configured one, which the original cannot take, resizes the positions.
    """

    def __init__(self, sizes: TrunkSizes) -> None:
        super().__init__()
        self.grid_hw = tuple(sizes.grid_hw)
        self.pos_embed = empty_positions(1 + self.grid_hw[0] * self.grid_hw[1], sizes.width)
        self.patch_embed = PatchEmbed(sizes.width)
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.depth))
        self.last_norm = nn.LayerNorm(sizes.width, eps=sizes.layer_norm_eps)
        init_linear(self)

    def forward(self, x: Tensor) -> Tensor:
        x, grid_hw = self.patch_embed(x)  # (B, h*w, C)
        x = x + resize_grid(self.pos_embed[:, 1:], self.grid_hw, grid_hw) + self.pos_embed[:, :1]
        for block in self.blocks:
            x = block(x)
        return tokens_to_map(self.last_norm(x), grid_hw)  # (B, C, h, w)
