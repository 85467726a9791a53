"""Flip test: heatmaps of the mirrored crop, mirrored back and averaged with those of the crop."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def flip_back(heatmaps_of_mirrored: Tensor, flip_indices: Sequence[int] | Tensor, shift: bool = False) -> Tensor:
    """Heatmaps (B, K, H, W) of the mirrored crop in the crop's own orientation and keypoint order.

    Args:
        heatmaps_of_mirrored: (B, K, H, W).
        flip_indices: K indices, see `Skeleton.flip_indices`; a tensor has to be on the maps' device.
        shift: move the result one cell to the right (column 0 keeps its value), which networks trained with the classic
            affine need: mirroring pixels 0 .. W - 1 is off by one cell there.
    """
    order = flip_indices
    if not isinstance(order, Tensor):
        order = torch.tensor(list(flip_indices), device=heatmaps_of_mirrored.device)
    back = heatmaps_of_mirrored.index_select(1, order).flip(3)
    return torch.cat([back[..., :1], back[..., :-1]], dim=3) if shift else back


def flip_average(
    heatmaps: Tensor, heatmaps_of_mirrored: Tensor, flip_indices: Sequence[int] | Tensor, shift: bool = False
) -> Tensor:
    """Mean of the heatmaps (B, K, H, W) of a crop and of its mirror image; arguments as in `flip_back`.

    Source: mmpose `flip_heatmaps`, `TopDown.forward_test`.
    """
    return (heatmaps + flip_back(heatmaps_of_mirrored, flip_indices, shift)) * 0.5


class FlipAverage(nn.Module):
    """`flip_average` of one skeleton; the order moves to the device with the module instead of at every call."""

    def __init__(self, flip_indices: Sequence[int], shift: bool = False) -> None:
        super().__init__()
        self.shift = shift
        self.register_buffer("order", torch.tensor(list(flip_indices)), persistent=False)

    def forward(self, heatmaps: Tensor, heatmaps_of_mirrored: Tensor) -> Tensor:
        """Mean of (B, K, H, W) of a crop and of its mirror image."""
        return flip_average(heatmaps, heatmaps_of_mirrored, self.order, self.shift)
