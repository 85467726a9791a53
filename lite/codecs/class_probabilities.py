"""Logits of a classifier to probabilities."""

import torch
from torch import Tensor, nn


class ClassProbabilities(nn.Module):
    """Softmax over the classes, in float32 whatever the network computes in."""

    def decode(self, logits: Tensor) -> Tensor:
        """(B, C) of any float type -> (B, C) float32 that sums to 1."""
        return torch.softmax(logits.float(), dim=1)

    forward = decode
