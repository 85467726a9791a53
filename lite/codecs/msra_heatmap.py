"""Classic heatmaps (HRNet, ViTPose on AIC and CrowdPose): a Gaussian on the nearest cell, decoded to quarter cells.

Source: Xiao et al., "Simple Baselines"; Zhang et al., "Distribution-Aware Coordinate Representation" (DARK);
mmpose 0.x `TopDownGenerateTarget` and `keypoints_from_heatmaps`.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from lite.codecs.peaks import (
    BlurredMaximum,
    blurred_window,
    check_maps,
    find_peaks,
    gaussian_kernel,
    read_cells,
    settle,
)
from lite.errors import ConfigError

FLOOR = 1e-10  # the blurred map is raised to this before the logarithm


class MSRAHeatmap(nn.Module):
    """Keypoints in crop pixels <-> heatmaps.

    Coordinates. `encode` takes points as `classic_affine` moves them, `decode` gives `heatmap_xy * input / heatmap`,
    and `lite.geometry.classic_to_frame` takes them back to the frame.

    Nothing to find. A map whose maximum is not above 0 keeps that maximum as its score and its point is cell (-1, -1),
    as in the originals. A map with NaN or +infinity in it scores 0. Points and scores are always finite.

    Args:
        input_hw: crop, px.
        heatmap_hw: one map, cells.
        sigma: of the encoded Gaussian, cells.
        blur_kernel: width of the smoothing that "unbiased" starts with, cells, odd.
        refine: how a point gets between cells: "default" a quarter cell towards the higher neighbour, "unbiased" DARK's
            Newton step, "none" not at all. Peaks in the first two rows and columns, in the last one ("default") or the
            last two ("unbiased") stay on their cell.
        unbiased_target: encode the Gaussian at the sub-pixel position and over the whole map.

    Raises:
        ConfigError: a refinement that is not known or an even kernel.
    """

    def __init__(
        self,
        *,
        input_hw: tuple[int, int],
        heatmap_hw: tuple[int, int],
        sigma: float = 2.0,
        blur_kernel: int = 11,
        refine: Literal["default", "unbiased", "none"] = "default",
        unbiased_target: bool = False,
    ) -> None:
        super().__init__()
        if refine not in ("default", "unbiased", "none"):
            raise ConfigError(f"refine: expected default, unbiased or none, found {refine!r}")
        self.input_hw, self.heatmap_hw = tuple(input_hw), tuple(heatmap_hw)
        self.sigma, self.refine, self.unbiased_target = float(sigma), refine, unbiased_target
        self.kernel = gaussian_kernel(blur_kernel)
        self.scaled = BlurredMaximum(self.heatmap_hw, self.kernel, FLOOR, math.inf) if refine == "unbiased" else None
        (h, w), (map_h, map_w) = self.input_hw, self.heatmap_hw
        self.register_buffer("to_input", torch.tensor([w / map_w, h / map_h]), persistent=False)

    def encode(self, keypoints: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Target maps of annotated keypoints.

        Args:
            keypoints: (K, 2) or (B, K, 2) px of the crop.
            visible: (K,) or (B, K), 0..1; the map stays empty unless it is above 0.5.

        Returns:
            heatmaps (..., K, H, W) float32 with a peak of at most 1; weights (..., K) float32: `visible`, but 0 where
            the Gaussian's square (3 sigma each way) lies outside the map.
        """
        map_h, map_w = self.heatmap_hw
        center = keypoints.float() / self.to_input.to(keypoints.device)
        middle = center if self.unbiased_target else torch.trunc(center + 0.5)
        start, stop = middle - 3 * self.sigma, middle + 3 * self.sigma + 1
        if not self.unbiased_target:
            start, stop = torch.trunc(start), torch.trunc(stop)
        size = torch.tensor([map_w, map_h], device=keypoints.device)
        reachable = ((start < size) & (stop >= 0)).all(dim=-1)
        weights = torch.where(reachable, visible.float(), 0.0)
        drawn = (weights > 0.5).float()
        lines = []
        for axis, cells in ((0, map_w), (1, map_h)):
            grid = torch.arange(cells, device=keypoints.device)
            bell = torch.exp(-((grid - middle[..., axis, None]) ** 2) / (2 * self.sigma**2))
            near = (grid >= start[..., axis, None]) & (grid < stop[..., axis, None])
            lines.append(torch.where(near | self.unbiased_target, bell, 0.0).nan_to_num())  # (..., K, cells)
        return lines[1][..., :, None] * (lines[0] * drawn[..., None])[..., None, :], weights

    def decode(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints of network outputs.

        Args:
            heatmaps: (B, K, H, W), any float type; what is computed from them is float32.

        Returns:
            keypoints (B, K, 2) float32 px of the crop; scores (B, K) float32, the raw maxima.
        """
        check_maps(heatmaps, self.heatmap_hw)
        column, row, scores = find_peaks(heatmaps)
        peak = torch.stack([column, row], dim=-1).float()  # (B, K, 2)
        if self.refine == "none":
            step = torch.zeros_like(peak)
        elif self.refine == "default":
            step = self._quarter(heatmaps, column, row)
        else:
            step = self._newton(heatmaps, column, row, scores)
        return settle(peak, step, scores, self.to_input), scores

    forward = decode

    def _interior(self, column: Tensor, row: Tensor, margin: int) -> Tensor:
        """(B, K, 1) bool: not in the first two rows and columns, nor in the last `margin` ones."""
        height, width = self.heatmap_hw
        inside = (column > 1) & (column < width - margin) & (row > 1) & (row < height - margin)
        return inside[..., None]

    def _quarter(self, heatmaps: Tensor, column: Tensor, row: Tensor) -> Tensor:
        height, width = self.heatmap_hw
        near = torch.arange(-1, 2, device=heatmaps.device)
        rows, columns = (row[..., None] + near).clamp(0, height - 1), (column[..., None] + near).clamp(0, width - 1)
        v = read_cells(heatmaps, rows, columns).float()  # (B, K, 3, 3) indexed [y, x]
        slope = torch.stack([v[:, :, 1, 2] - v[:, :, 1, 0], v[:, :, 2, 1] - v[:, :, 0, 1]], dim=-1)
        return torch.where(self._interior(column, row, 1), 0.25 * torch.sign(slope), 0.0)

    def _newton(self, heatmaps: Tensor, column: Tensor, row: Tensor, scores: Tensor) -> Tensor:
        """Step to the top of the logarithm of the blurred map, its second differences taken over two cells."""
        window = blurred_window(heatmaps, column, row, self.kernel, 2, "zero")
        v = self.scaled(window, heatmaps, scores).clamp(min=FLOOR).log()  # (B, K, 5, 5) indexed [y, x]
        dx = 0.5 * (v[:, :, 2, 3] - v[:, :, 2, 1])
        dy = 0.5 * (v[:, :, 3, 2] - v[:, :, 1, 2])
        dxx = 0.25 * (v[:, :, 2, 4] - 2 * v[:, :, 2, 2] + v[:, :, 2, 0])
        dyy = 0.25 * (v[:, :, 4, 2] - 2 * v[:, :, 2, 2] + v[:, :, 0, 2])
        dxy = 0.25 * (v[:, :, 3, 3] - v[:, :, 1, 3] - v[:, :, 3, 1] + v[:, :, 1, 1])
        determinant = dxx * dyy - dxy * dxy
        step = torch.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], dim=-1) / determinant[..., None]
        return torch.where(self._interior(column, row, 2) & (determinant != 0)[..., None], step, 0.0)
