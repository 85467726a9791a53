"""Losses between predicted and target heatmaps, (B, K, H, W) each, with (B, K) weights."""

from torch import Tensor


def keypoint_mse(output: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Weighted squared error, averaged over everything; keypoints of weight 0 stay in the denominator.

    Source: Sapiens, KeypointMSELoss.
    """
    return (weights[:, :, None, None] * (output - target).square()).mean()


def keypoint_ohkm(output: Tensor, target: Tensor, weights: Tensor, top: int) -> Tensor:
    """As `keypoint_mse` on the `top` worst keypoints of each sample alone (weights enter squared).

    Source: Sapiens, KeypointOHKMMSELoss.
    """
    error = (weights[:, :, None, None] * (output - target)).square().mean((2, 3))  # (B, K)
    return error.topk(top, dim=1).values.mean(1).mean()
