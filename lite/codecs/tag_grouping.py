"""Bottom-up maps to candidates: where each kind of keypoint peaks, and the tag that says which person a peak is of.

Everything that touches pixels is here, in tensor operations; which candidates make one person is decided on the host
(`lite.group`), because it is a search over a few hundred numbers. Maps keep whatever size the picture asked for.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from lite.codecs.flip import flip_average, flip_back
from lite.errors import ConfigError, ModelError

STRIDE_OF_TAGS = 4


class TagGrouping(nn.Module):
    """Heatmaps and tag maps -> candidates, and the maps in which the host looks for what a person lacks.

    A place in the network's input that holds a peak in its middle is (x + 0.5, y + 0.5), moved a quarter pixel towards
    the higher neighbour in each axis; `floor` of it is the pixel of the peak.

    Args:
        num_candidates: M, peaks kept of each map, best first; the number of people that can be told apart.

    Raises:
        ConfigError: `num_candidates` is not in 1..1000.
    """

    def __init__(self, *, num_candidates: int = 30) -> None:
        super().__init__()
        if not 1 <= num_candidates <= 1000:
            raise ConfigError(f"num_candidates: expected 1 to 1000, found {num_candidates}")
        self.num_candidates = num_candidates

    def decode(self, heatmaps_4: Tensor, heatmaps_2: Tensor | None, tags: Tensor) -> tuple[Tensor, ...]:
        """Candidates of network outputs.

        Args:
            heatmaps_4: (B, K, h/4, w/4), any float type; what is computed from them is float32.
            heatmaps_2: (B, K, h/2, w/2); None for a network without them.
            tags: (B, K, h/4, w/4), or (B, K, E, h/4, w/4) with E tags a place (two after a flip test).

        Returns:
            keypoints (B, K, M, 2) float32 px of the network's input; scores (B, K, M) float32, the heatmap there,
            descending; tags (B, K, M, E) float32. Fewer than M peaks leave places with score 0 at the end. Then
            heatmaps (B, K, h/2, w/2) float32, the mean over both resolutions ((B, K, h/4, w/4) without `heatmaps_2`),
            and tag_maps (B, K, E, h/4, w/4) float32: `lite.refine` enlarges of them what it needs, a quarter and
            a sixteenth of what the enlarged maps would be to fetch from the device.

        Raises:
            ModelError: the maps do not have the ranks above.

        Source: Cheng et al., "HigherHRNet", section 3.4; Newell et al., "Associative Embedding".
        """
        if heatmaps_4.ndim != 4 or tags.ndim not in (4, 5):
            found = f"{tuple(heatmaps_4.shape)} and {tuple(tags.shape)}"
            raise ModelError(
                f"heatmaps and tags: expected (B, K, h, w) and (B, K, h, w) or (B, K, E, h, w), found {found}"
            )
        tag_maps = (tags if tags.ndim == 5 else tags.unsqueeze(2)).float()
        heatmaps = heatmaps_4.float()
        if heatmaps_2 is not None:
            heatmaps = (_enlarge(heatmaps, 2) + heatmaps_2.float()) * 0.5
        full = _enlarge(heatmaps, STRIDE_OF_TAGS if heatmaps_2 is None else STRIDE_OF_TAGS // 2)
        x, y, scores = find_candidates(full, self.num_candidates)
        return towards_higher(full, x, y), scores, read_tags(tag_maps, x, y), heatmaps, tag_maps

    forward = decode


class MergeMirrored(nn.Module):
    """`merge_mirrored` of one skeleton; the order moves to the device with the module."""

    def __init__(self, flip_indices: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("order", torch.tensor(list(flip_indices)), persistent=False)

    def forward(self, raw: dict[str, Tensor], of_mirrored: dict[str, Tensor]) -> dict[str, Tensor]:
        """Raw outputs of a batch and of its mirror image as one."""
        return merge_mirrored(raw, of_mirrored, self.order)


def merge_mirrored(
    raw: dict[str, Tensor], of_mirrored: dict[str, Tensor], flip_indices: Sequence[int] | Tensor
) -> dict[str, Tensor]:
    """Raw outputs of a batch and of its mirror image as one: heatmaps averaged, tags side by side.

    Tags of two passes mean nothing in common, so they stay two numbers a place.

    Args:
        raw: heatmaps_4 (B, K, h/4, w/4), heatmaps_2 (B, K, h/2, w/2) if the network has them, tags (B, K, h/4, w/4).
        of_mirrored: the same of the mirrored input, as the network gave them.
        flip_indices: K indices, see `Skeleton.flip_indices`; a tensor has to be on the maps' device.

    Returns:
        As `raw`, with tags (B, K, 2, h/4, w/4): of the picture, of its mirror image.

    Source: Cheng et al., "HigherHRNet", the published test-time flip.
    """
    merged = {
        name: flip_average(raw[name], of_mirrored[name], flip_indices) for name in raw if name.startswith("heatmaps")
    }
    return {**merged, "tags": torch.stack([raw["tags"], flip_back(of_mirrored["tags"], flip_indices)], dim=2)}


def find_candidates(full: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best local maxima of maps (B, K, H, W) float32.

    Returns:
        x, y: (B, K, most) int64. scores: (B, K, most) float32, descending. A map with NaN in it gives NaN scores.
    """
    width = full.shape[3]
    peaks = full * (_highest_around(full) == full)  # a product, so that NaN stays NaN and somebody notices
    scores, index = peaks.flatten(2).topk(most, dim=2)
    y = torch.div(index, width, rounding_mode="floor")
    return index - y * width, y, scores


def _highest_around(full: Tensor) -> Tensor:
    """Maxima of the 5 x 5 squares around each place; six comparisons take an eighth of the time of pooling on a CPU."""
    padded = pad(full, (2, 2, 2, 2), value=torch.finfo(torch.float32).min)
    two = torch.maximum(padded[..., :-1], padded[..., 1:])
    four = torch.maximum(two[..., :-2], two[..., 2:])
    line = torch.maximum(four[..., :-1], padded[..., 4:])
    two = torch.maximum(line[..., :-1, :], line[..., 1:, :])
    four = torch.maximum(two[..., :-2, :], two[..., 2:, :])
    return torch.maximum(four[..., :-1, :], line[..., 4:, :])


def towards_higher(full: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Pixels (B, K, M) int64 of maps (B, K, H, W) as points (B, K, M, 2), a quarter pixel towards the higher side."""
    height, width = full.shape[2:]
    left, right = (x - 1).clamp(min=0), (x + 1).clamp(max=width - 1)
    up, down = (y - 1).clamp(min=0), (y + 1).clamp(max=height - 1)
    flat = full.flatten(2)

    def value(columns: Tensor, rows: Tensor) -> Tensor:
        return flat.gather(2, rows * width + columns)

    step_x = torch.where(value(right, y) > value(left, y), 0.75, 0.25)
    step_y = torch.where(value(x, down) > value(x, up), 0.75, 0.25)
    return torch.stack([x + step_x, y + step_y], dim=-1)


def read_tags(tag_maps: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Tags (B, K, M, E) at pixels (B, K, M) int64 of the input: what the maps (B, K, E, h, w) hold there once enlarged
    bilinearly. Read cell by cell, which spares maps of a hundred megabytes."""
    height, width = tag_maps.shape[3:]
    (row, next_row, down), (column, next_column, right) = _between(y, height), _between(x, width)
    flat = tag_maps.flatten(3)
    embeddings = tag_maps.shape[2]

    def value(rows: Tensor, columns: Tensor) -> Tensor:
        return flat.gather(3, (rows * width + columns).unsqueeze(2).expand(-1, -1, embeddings, -1))

    right, down = right.unsqueeze(2), down.unsqueeze(2)
    upper = value(row, column) * (1 - right) + value(row, next_column) * right
    lower = value(next_row, column) * (1 - right) + value(next_row, next_column) * right
    return (upper * (1 - down) + lower * down).transpose(2, 3)


def _between(place: Tensor, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two cells a pixel lies between, and how far it is from the first, 0..1."""
    position = ((place.float() + 0.5) / STRIDE_OF_TAGS - 0.5).clamp(min=0)
    first = position.floor()
    cell = first.long()
    return cell, (cell + 1).clamp(max=cells - 1), position - first


def _enlarge(maps: Tensor, factor: int) -> Tensor:
    return interpolate(maps, scale_factor=float(factor), mode="bilinear", align_corners=False)
