"""ViTPose+ and HAP multi as they are trained: one trunk, an expert a block and a head for each data set.

Inference uses plain networks (`vitpose_datasets.one_data_set`); this one has the tensors of a multi-data-set file
under their own names, shows that the plain ones give the same, and starts a training from a single network.
Source: ViTPose mmpose/models/backbones/vit_moe.py, mmcv_custom/checkpoint.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from lite.errors import CheckpointError
from lite.models.heads import ClassicHead
from lite.models.vit import input_grid, resize_grid, tokens_to_map
from lite.models.vitpose_datasets import DATA_SETS, EXPERT_ORDER
from lite.models.vitpose_trunk import PATCH_PADDING, SIZES, Block, TrunkSizes, ViTPoseTrunk

PARTS = {"s": 192, "b": 192, "l": 256, "h": 320}  # channels of a block's output that come from the expert


class ExpertMlp(nn.Module):
    """Two linear layers; the last `part` channels come from the expert of each picture's data set."""

    def __init__(self, width: int, hidden: int, num_experts: int, part: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width - part)
        self.experts = nn.ModuleList(nn.Linear(hidden, part) for _ in range(num_experts))

    def forward(self, x: Tensor, dataset: Tensor) -> Tensor:
        hidden = self.act(self.fc1(x))
        special = torch.zeros(*x.shape[:2], self.experts[0].out_features, dtype=hidden.dtype, device=x.device)
        for i, expert in enumerate(self.experts):
            special = torch.where((dataset == i).reshape(-1, 1, 1), expert(hidden), special)
        return torch.cat([self.fc2(hidden), special], dim=2)  # (B, N, C)


class ExpertBlock(Block):
    """A block whose second linear layer has experts."""

    def __init__(self, sizes: TrunkSizes, num_experts: int, part: int) -> None:
        super().__init__(sizes)
        self.mlp = ExpertMlp(sizes.width, sizes.hidden, num_experts, part)

    def forward(self, x: Tensor, dataset: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x), dataset)  # (B, N, C)


class ExpertTrunk(ViTPoseTrunk):
    """`ViTPoseTrunk` with experts in every block."""

    def __init__(self, sizes: TrunkSizes, num_experts: int, part: int) -> None:
        super().__init__(replace(sizes, depth=0))
        self.blocks = nn.ModuleList(ExpertBlock(sizes, num_experts, part) for _ in range(sizes.depth))

    def forward(self, x: Tensor, dataset: Tensor) -> Tensor:
        x, grid_hw = self.patch_embed(x)  # (B, h*w, C)
        x = x + resize_grid(self.pos_embed[:, 1:], self.grid_hw, grid_hw) + self.pos_embed[:, :1]
        for block in self.blocks:
            x = block(x, dataset)
        return tokens_to_map(self.last_norm(x), grid_hw)  # (B, C, h, w)


class ViTPoseExperts(nn.Module):
    """Pictures of several data sets to the heatmaps of every head.

    Args:
        sizes: of the trunk.
        part: channels of a block's output that come from the expert.
        keypoints: channels of each data set's head, the first being `keypoint_head`.
    """

    def __init__(
        self, sizes: TrunkSizes, part: int, keypoints: Sequence[int], deconv_channels: Sequence[int] = (256, 256)
    ) -> None:
        super().__init__()
        self.backbone = ExpertTrunk(sizes, len(keypoints), part)
        heads = [ClassicHead(sizes.width, count, deconv_channels) for count in keypoints]
        self.keypoint_head = heads[0]
        self.associate_keypoint_heads = nn.ModuleList(heads[1:])

    def forward(self, x: Tensor, dataset: Tensor) -> list[Tensor]:
        """Every head on every picture, as the loss of the original wants them.

        Args:
            x: (B, 3, h, w) normalised. dataset: (B,) int64, position of each picture's data set.

        Returns:
            For each data set (B, K, h/4, w/4); only the pictures of that data set mean something in it.
        """
        features = self.backbone(x, dataset)
        return [head(features) for head in (self.keypoint_head, *self.associate_keypoint_heads)]


def vitpose_experts(size: str, num_experts: int, input_hw: tuple[int, int] = (256, 192)) -> ViTPoseExperts:
    """A published multi-data-set network with random weights.

    Six experts make a ViTPose+, three a HAP, whose heads are all 17 wide.
    """
    sizes = replace(SIZES[size], grid_hw=input_grid(input_hw, PATCH_PADDING))
    counts = [DATA_SETS[name].num_keypoints for name in EXPERT_ORDER[:num_experts]]
    return ViTPoseExperts(sizes, PARTS[size], counts if num_experts > 3 else [17] * num_experts)


def give_experts(state: Mapping[str, Tensor], num_experts: int, part: int) -> dict[str, Tensor]:
    """A plain trunk as the start of one with experts: each expert takes the last `part` rows of `fc2`.

    Raises:
        CheckpointError: `part` leaves nothing to share.
    """
    shared: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if ".mlp.fc2." not in name:
            shared[name] = tensor
            continue
        rest = tensor.shape[0] - part
        if not 0 < rest < tensor.shape[0]:
            raise CheckpointError(
                f"expected a part of the {tensor.shape[0]} channels for each expert, found {part}; choose fewer"
            )
        shared[name] = tensor[:rest]
        for i in range(num_experts):
            shared[name.replace(".mlp.fc2.", f".mlp.experts.{i}.")] = tensor[rest:]
    return shared
