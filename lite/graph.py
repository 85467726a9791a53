"""One module from uint8 pixels to coordinates: normalise, network, flip test, codec decode. Run eagerly and exported.

The network runs in the spec's mode; everything before and after it is float32, because a coordinate rounded to bfloat16
is off by pixels. Network and codec are handed in, so that a graph can be made of any two that fit together.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from lite.artifact import ArtifactSpec, OutputSpec
from lite.cost import ProductCounter
from lite.errors import ModelError
from lite.network import OUTPUTS, any_size

# What a network computes in. An int8 graph is written in float32 and quantised afterwards.
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int8": torch.float32}
UNITS = {
    "keypoints": "crop px",
    "boxes": "canvas px",
    "scores": "0..1",
    "labels": "class",
    "logits": "logit",
    "probabilities": "0..1",
    "tags": "tag",
    "heatmaps": "0..1",
    "tag_maps": "tag",
}
FLIPPED = ("pose", "segment", "pose-bottom-up")  # tasks that can average with the mirrored crop


class Codec(Protocol):
    """What the graph asks of a codec; the arguments of `decode` are the network's raw outputs."""

    def decode(self, *raw: Tensor) -> tuple[Tensor, ...]: ...


class PixelGraph(nn.Module):
    """Pixels in, coordinates out.

    Args:
        network: normalised (B, 3, h, w) in, dict of raw outputs out; already in the dtype of `spec.mode`.
        codec: pose: `decode(heatmaps (B, K, H, W)) -> keypoints (B, K, 2), scores (B, K)`;
            detect: `decode(cls, reg, canvas_hw) -> boxes (B, n, 4), scores (B, n), labels (B, n)`; segment:
            `decode(logits (B, C, H, W)) -> logits`; classify: `decode(logits (B, C)) -> probabilities (B, C)`;
            pose-bottom-up: `decode(heatmaps_4, heatmaps_2 or None, tags) -> ` the five outputs of the task.
        spec: task, input size, normalisation, mode and flip test.
        merge_flip: needed when `spec.flip_test`. Pose: `(heatmaps, heatmaps of the mirrored crop) -> heatmaps`;
            segment: the same of logits; pose-bottom-up: the same of the dicts of raw outputs.
    """

    def __init__(
        self,
        network: nn.Module,
        codec: Codec,
        spec: ArtifactSpec,
        merge_flip: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        if spec.task not in OUTPUTS:
            raise ModelError(f"{spec.model}: expected a task of {', '.join(OUTPUTS)}, found {spec.task}")
        if spec.flip_test and (spec.task not in FLIPPED or merge_flip is None):
            raise ModelError(
                f"{spec.model}: a flip test needs maps and a skeleton or labels with mirrored pairs; leave out "
                "--flip-test"
            )
        self.network = network
        self.codec = codec
        self.spec = spec
        self.merge_flip = merge_flip
        self.dtype = DTYPES[spec.mode]
        # x / std - mean / std in one multiply-add; equal to (x - mean) / std within float32 rounding.
        mean, std = (torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1) for values in (spec.mean, spec.std))
        self.register_buffer("factor", 1.0 / std, persistent=False)
        self.register_buffer("offset", -mean / std, persistent=False)
        if spec.color_order == "BGR":
            self.register_buffer("order", torch.tensor([2, 1, 0]), persistent=False)

    def normalise(self, pixels: Tensor) -> Tensor:
        """(B, h, w, 3) uint8 RGB -> (B, 3, h, w) in the network's dtype and colour order, channels-last in memory."""
        x = pixels.to(torch.float32)  # before anything else: TensorRT reads 8-bit numbers by a cast and nothing else
        if self.spec.color_order == "BGR":
            x = x.index_select(3, self.order)  # half the time of a flip
        return torch.addcmul(self.offset, x.permute(0, 3, 1, 2), self.factor).to(self.dtype)

    def maps(self, pixels: Tensor, name: str) -> Tensor:
        """The network's maps of a batch (B, h, w, 3) uint8 RGB, averaged with the mirrored crop's if that is asked for.

        The average is float32. Otherwise they stay in the network's dtype: a float32 copy of 308 maps of 256x192 is
        60 MB a crop, and what the codec reads of them it computes with in float32.
        """
        x = self.normalise(pixels)
        maps = self.network(x)[name]
        if self.spec.flip_test:
            maps = self.merge_flip(maps.float(), self.network(x.flip(3))[name].float())
        return maps

    def heatmaps(self, pixels: Tensor) -> Tensor:
        """(B, h, w, 3) uint8 RGB -> (B, K, H, W); see `maps`."""
        return self.maps(pixels, "heatmaps")

    def raw(self, pixels: Tensor) -> dict[str, Tensor | list[Tensor]]:
        """What `decode` needs of a batch (B, h, w, 3) uint8 RGB: the network's raw outputs, flip test included."""
        if self.spec.task == "pose":
            return {"heatmaps": self.heatmaps(pixels)}
        if self.spec.task == "segment":
            return {"logits": self.maps(pixels, "logits")}
        x = self.normalise(pixels)
        raw = self.network(x)
        if self.spec.flip_test:
            mirrored = self.network(x.flip(3))
            raw = self.merge_flip(_in_float32(raw), _in_float32(mirrored))
        return raw

    def decode(self, raw: dict[str, Tensor | list[Tensor]]) -> dict[str, Tensor]:
        """Coordinates of what `raw` gave; see `forward`."""
        if self.spec.task == "pose":
            decoded = self.codec.decode(raw["heatmaps"])
        elif self.spec.task == "detect":
            cls, reg = ([level.float() for level in raw[name]] for name in ("cls", "reg"))
            decoded = self.codec.decode(cls, reg, self.spec.input_hw)
        elif self.spec.task == "pose-bottom-up":
            maps = _in_float32(raw)
            decoded = self.codec.decode(maps["heatmaps_4"], maps.get("heatmaps_2"), maps["tags"])
        else:
            decoded = (self.codec.decode(raw["logits"].float()),)
        return dict(zip(OUTPUTS[self.spec.task], decoded, strict=True))

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Coordinates of a batch.

        Args:
            pixels: (B, h, w, 3) uint8 RGB, any B >= 1.

        Returns:
            Pose: `keypoints` (B, K, 2) float32 px of the crop, `scores` (B, K) float32.
            Detect: `boxes` (B, n, 4) float32 xyxy px of the canvas, `scores` (B, n) float32, `labels` (B, n) int64,
            before suppression; unused places have score 0.
            Segment: `logits` (B, C, H, W) float32. Classify: `probabilities` (B, C) float32.
            Pose-bottom-up: `keypoints` (B, K, M, 2) float32 px of the input, `scores` (B, K, M), `tags` (B, K, M, E) of
            the M best candidates of each keypoint, and the maps that people are completed from; see the codec.
        """
        return self.decode(self.raw(pixels))


def _in_float32(raw: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.float() for name, value in raw.items()}


def _sides(name: str, value: Tensor, spec: ArtifactSpec) -> tuple[int | str, ...]:
    """The shape without the batch; sides of maps that follow an input of any size are written "h/2"."""
    if not (any_size(spec) and name in ("heatmaps", "tag_maps")):
        return tuple(value.shape[1:])
    height, width = spec.input_hw
    return (*value.shape[1:-2], f"h/{height // value.shape[-2]}", f"w/{width // value.shape[-1]}")


def describe(graph: PixelGraph) -> ArtifactSpec:
    """The graph's spec with what it returns (names, shapes, dtypes) and how much arithmetic a crop is.

    Found with fake tensors, so that a large network costs nothing.
    """
    height, width = graph.spec.input_hw
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
        pixels = torch.empty((1, height, width, 3), dtype=torch.uint8, device=graph.factor.device)
        with ProductCounter() as counter:
            raw = graph.raw(pixels)
        outputs = graph.decode(raw)
    described = tuple(
        OutputSpec(
            name=name,
            shape=("N", *_sides(name, value, graph.spec)),
            dtype=str(value.dtype).removeprefix("torch."),
            unit=UNITS[name],
        )
        for name, value in outputs.items()
    )
    return replace(graph.spec, outputs=described, flops=counter.flops(), trunk_matrix=counter.trunk_matrix())
