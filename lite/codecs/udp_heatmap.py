"""UDP heatmaps (Sapiens, ViTPose, HAP): a Gaussian at the sub-pixel position, decoded by a Newton step on its log.

Source: Huang et al., "The Devil is in the Details" (UDP), with the decoding of Zhang et al., "Distribution-Aware
Coordinate Representation" (DARK); mmpose 1.x `codecs/udp_heatmap.py`, mmpose 0.x `post_dark_udp`.
"""

import torch
from torch import Tensor, nn

from lite.codecs.peaks import (
    BlurredMaximum,
    Border,
    blurred_window,
    check_maps,
    find_peaks,
    gaussian_kernel,
    read_cells,
    settle,
)
from lite.errors import ConfigError

FLOOR, CEILING = 1e-3, 50.0  # the map is cut to this range before the logarithm
EPSILON = 1.1920929e-07  # added to the diagonal of the Hessian; float32 epsilon, as the originals


class UDPHeatmap(nn.Module):
    """Keypoints in crop pixels <-> heatmaps.

    Coordinates. `encode` takes points as `udp_affine` moves them: 0 .. input - 1 spans heatmap cells 0 .. heatmap - 1.
    `decode` gives `heatmap_xy / (heatmap - 1) * input`, as the originals do, so decode(encode(x)) is
    `x * input / (input - 1)`. The factor is taken back by `lite.geometry.udp_to_frame`, the matrix that belongs to
    these coordinates; nothing else needs to know.

    Nothing to find. A map whose maximum is not above 0 keeps that maximum as its score and its point is cell (-1, -1),
    one outside the top left corner, where the originals give NaN or read a neighbouring map. A map with NaN or
    +infinity in it scores 0. Points and scores are always finite: a step that is not leaves the highest cell itself.

    Args:
        input_hw: crop, px.
        heatmap_hw: one map, cells.
        sigma: of the encoded Gaussian, cells.
        blur_kernel: width of the smoothing before the step, cells, odd.
        border: "zero" as mmpose 1.x and Sapiens: the blur sees zeros outside and the map is scaled back to its old
            maximum; "reflect" as the original ViTPose: mirrored border, not scaled.
        max_step: longest step from the highest cell along either axis, cells; None leaves it free, as the originals.

    Raises:
        ConfigError: a border that is not known, an even kernel, a map less than two cells wide or high.
    """

    def __init__(
        self,
        *,
        input_hw: tuple[int, int],
        heatmap_hw: tuple[int, int],
        sigma: float = 2.0,
        blur_kernel: int = 11,
        border: Border = "zero",
        max_step: float | None = None,
    ) -> None:
        super().__init__()
        if border not in ("zero", "reflect"):
            raise ConfigError(f"border: expected zero or reflect, found {border!r}")
        if min(heatmap_hw) < 2:
            raise ConfigError(f"heatmap_hw: expected at least 2x2 cells, found {tuple(heatmap_hw)}")
        self.input_hw, self.heatmap_hw = tuple(input_hw), tuple(heatmap_hw)
        self.sigma, self.border, self.max_step = float(sigma), border, max_step
        self.kernel = gaussian_kernel(blur_kernel)
        self.scaled = BlurredMaximum(self.heatmap_hw, self.kernel, FLOOR, CEILING) if border == "zero" else None
        (h, w), (map_h, map_w) = self.input_hw, self.heatmap_hw
        self.register_buffer("to_input", torch.tensor([w / (map_w - 1), h / (map_h - 1)]), persistent=False)

    def encode(self, keypoints: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Target maps of annotated keypoints.

        Args:
            keypoints: (K, 2) or (B, K, 2) px of the crop.
            visible: (K,) or (B, K), 0..1; below 0.5 the map stays empty.

        Returns:
            heatmaps (..., K, H, W) float32 with a peak of at most 1; weights (..., K) float32: `visible`, but 0 where
            the Gaussian's square (3 sigma each way) lies outside the map.
        """
        (h, w), (map_h, map_w) = self.input_hw, self.heatmap_hw
        to_map = torch.tensor([(map_w - 1) / (w - 1), (map_h - 1) / (h - 1)], device=keypoints.device)
        center = keypoints.float() * to_map
        middle = torch.trunc(center + 0.5)
        start, stop = torch.trunc(middle - 3 * self.sigma), torch.trunc(middle + 3 * self.sigma + 1)
        size = torch.tensor([map_w, map_h], device=keypoints.device)
        reachable = ((start < size) & (stop >= 0)).all(dim=-1)
        weights = torch.where(reachable | (visible < 0.5), visible.float(), 0.0)
        drawn = (reachable & (visible >= 0.5)).float()
        lines = []
        for axis, cells in ((0, map_w), (1, map_h)):
            grid = torch.arange(cells, device=keypoints.device)
            bell = torch.exp(-((grid - center[..., axis, None]) ** 2) / (2 * self.sigma**2))
            near = (grid >= start[..., axis, None]) & (grid < stop[..., axis, None])
            lines.append(torch.where(near, bell, 0.0))  # (..., K, cells)
        return lines[1][..., :, None] * (lines[0] * drawn[..., None])[..., None, :], weights

    def decode(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints of network outputs.

        Args:
            heatmaps: (B, K, H, W), any float type; what is computed from them is float32.

        Returns:
            keypoints (B, K, 2) float32 px of the crop (see the class); scores (B, K) float32, the raw maxima.
        """
        check_maps(heatmaps, self.heatmap_hw)
        column, row, scores = find_peaks(heatmaps)
        peak = torch.stack([column, row], dim=-1).float()  # (B, K, 2)
        return settle(peak, self._step(heatmaps, column, row, scores), scores, self.to_input), scores

    forward = decode

    def _step(self, heatmaps: Tensor, column: Tensor, row: Tensor, scores: Tensor) -> Tensor:
        """Newton step from the highest cell to the top of the logarithm of the blurred map: (B, K, 2) cells."""
        height, width = self.heatmap_hw
        window = blurred_window(heatmaps, column, row, self.kernel, 1, self.border)
        near = torch.arange(-1, 2, device=heatmaps.device)
        rows = (row[..., None] + near).clamp(0, height - 1) - row[..., None] + 1  # outside the map its edge repeats
        columns = (column[..., None] + near).clamp(0, width - 1) - column[..., None] + 1
        cells = read_cells(window, rows, columns)
        if self.scaled is not None:
            cells = self.scaled(cells, heatmaps, scores)
        v = cells.clamp(FLOOR, CEILING).log()  # (B, K, 3, 3) indexed [y, x]
        dx = 0.5 * (v[:, :, 1, 2] - v[:, :, 1, 0])
        dy = 0.5 * (v[:, :, 2, 1] - v[:, :, 0, 1])
        dxx = v[:, :, 1, 2] - 2 * v[:, :, 1, 1] + v[:, :, 1, 0] + EPSILON
        dyy = v[:, :, 2, 1] - 2 * v[:, :, 1, 1] + v[:, :, 0, 1] + EPSILON
        dxy = 0.5 * (
            (v[:, :, 2, 2] - v[:, :, 1, 2] - v[:, :, 2, 1] + v[:, :, 1, 1])
            + (v[:, :, 0, 0] - v[:, :, 1, 0] - v[:, :, 0, 1] + v[:, :, 1, 1])
        )
        determinant = dxx * dyy - dxy * dxy
        step = torch.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], dim=-1) / determinant[..., None]
        return step if self.max_step is None else step.clamp(-self.max_step, self.max_step)
