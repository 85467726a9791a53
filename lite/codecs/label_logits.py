"""Segmentation: nothing to decode inside the graph; labels are found at the size of the picture, see `segment.py`."""

import torch
from torch import Tensor, nn


class LabelLogits(nn.Module):
    """Logits (B, C, H, W) of any dtype as float32.

    One channel is a yes or no, as in the original: it stays one, and whoever resizes it compares with its threshold.
    """

    def decode(self, logits: Tensor) -> Tensor:
        """(B, C, H, W) float32."""
        return logits.to(torch.float32)

    def forward(self, logits: Tensor) -> Tensor:
        return self.decode(logits)
