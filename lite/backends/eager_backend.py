"""A network run as it is, in PyTorch. The one part that builds other parts: network, codec and graph, inside `open`."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lite.artifact import ArtifactSpec
from lite.backends import mmdet_backend
from lite.backends.cpu_bfloat16 import keep_memory, quicken
from lite.backends.cpu_convolution import pack_convolutions
from lite.backends.cpu_maps import PlanarMaps
from lite.backends.devices import choose_device, has_fast_bfloat16
from lite.backends.fold import fold_batch_norm
from lite.backends.side_by_side import SideBySide
from lite.backends.torch_module import TorchModuleBackend
from lite.errors import ConfigError, ModelError
from lite.graph import DTYPES, PixelGraph, describe
from lite.label_sets import swapped_order

# From this many parameters on the time is in large matrix products, where a device with bfloat16 hardware is several
# times faster than in float32. Smaller networks gain less, and single peaks move by pixels (the detector loses recall),
# so of them only those take bfloat16 whose AP was measured to be the same: see the card in checkpoints/. Detectors and
# bottom-up networks stay in float32 whatever their size: scores near a threshold and tags are compared with each other.
LARGE_NETWORK = 10_000_000
KEEP_FLOAT32 = {"detect": "a detector", "pose-bottom-up": "a bottom-up network"}
SMALL_BUT_AS_GOOD = ("pose17-small",)
LARGEST_BATCH = 1024


class EagerBackend(TorchModuleBackend):
    """A pixel graph; `why` it runs in its mode is part of `describe`."""

    def __init__(self, graph: PixelGraph, device: torch.device, why: str, side_by_side: bool = False) -> None:
        super().__init__(graph, graph.spec, device, f"eager {graph.spec.mode} ({why})")
        if side_by_side:
            self._call = SideBySide(graph)

    @torch.inference_mode()
    def decoding(self, pixels: np.ndarray) -> Callable[[], object]:
        """The decode of these (B, h, w, 3) uint8 RGB crops alone, to be called and timed: the network has run."""
        raw = self.module.raw(torch.from_numpy(pixels).to(self.device))
        return torch.inference_mode()(partial(self.module.decode, raw))


def choose_mode(network: nn.Module, mode: str, device: torch.device) -> tuple[str, str]:
    """The mode to run in, and the reason for people to read."""
    if mode != "auto":
        return mode, "as asked"
    small = sum(parameter.numel() for parameter in network.parameters()) < LARGE_NETWORK
    if small and network.spec.model not in SMALL_BUT_AS_GOOD and not _was_bfloat16(network):
        return "float32", "a small network"
    if network.spec.task in KEEP_FLOAT32 and not _was_bfloat16(network):
        return "float32", KEEP_FLOAT32[network.spec.task]
    if not has_fast_bfloat16(device):
        return "float32", "no fast bfloat16 on this device"
    return "bfloat16", "fast on this device"


def _was_bfloat16(network: nn.Module) -> bool:
    """Whether the weights come from a bfloat16 file: rounding them loses nothing. Others fail at the first tensor."""
    return all(torch.equal(tensor, tensor.bfloat16().to(tensor.dtype)) for tensor in network.parameters())


def build_graph(network: nn.Module, *, mode: str = "float32", flip_test: bool | None = None) -> PixelGraph:
    """The pixel graph of a loaded network with the codec its spec names; `network` is changed in place."""
    from lite.codecs import build_codec

    spec: ArtifactSpec = network.spec
    if spec.task == "features":
        raise ModelError(
            f"{spec.model}: expected a network with a head, found a bare trunk; train a head on it first, or give a "
            "checkpoint that has one"
        )
    flip_test = spec.flip_test if flip_test is None else flip_test
    spec = replace(spec, mode=mode, flip_test=flip_test, batch_range=(1, LARGEST_BATCH))
    merge_flip = _merge_flip(spec) if flip_test else None
    network = network.eval().requires_grad_(False).to(DTYPES[mode])
    graph = PixelGraph(network, build_codec(spec.codec), spec, merge_flip).eval()
    graph.spec = describe(graph)
    return graph


def _merge_flip(spec: ArtifactSpec) -> nn.Module | None:
    """How what a network says of a crop and of its mirror image becomes one; None where the two sides have no names."""
    from lite.codecs.flip import FlipAverage
    from lite.codecs.tag_grouping import MergeMirrored
    from lite.skeletons import load_skeleton

    if spec.task == "segment" and spec.labels:
        # One channel that says yes or no has two labels.
        channels = next((one.shape[1] for one in spec.outputs if one.name == "logits"), len(spec.labels))
        return FlipAverage(swapped_order(channels, spec.label_swaps if channels == len(spec.labels) else ()))
    if spec.skeleton is None:
        return None
    flip_indices = load_skeleton(spec.skeleton).flip_indices
    if spec.task == "pose-bottom-up":
        return MergeMirrored(flip_indices)
    # Networks trained with the classic affine see a mirrored crop one heatmap cell off.
    return FlipAverage(flip_indices, shift=spec.crop is not None and spec.crop.affine == "classic")


def load(model: str | Path, *, trust: bool, config: str | Path | None) -> nn.Module:
    """The network of a zoo name or checkpoint, or of a checkpoint and its mmdet configuration; float32, eval mode."""
    from lite.checkpoints import load_network, read_state_dict

    if config is None:
        return load_network(model, trust=trust)
    from lite.models.mmdet_config import rtmdet_from_config

    return rtmdet_from_config(config, *read_state_dict(model, trust)).eval()


def _describes_rtmdet(config: str | Path) -> bool:
    from lite.models.mmdet_config import describes_rtmdet

    return describes_rtmdet(config)


def find_artifact(name: str | Path) -> Path:
    """An exported file by its path, or by its bare name in the folders weights are looked for in.

    Raises:
        ModelError: there is no such file.
    """
    from lite.checkpoints import resolve_model

    return resolve_model(name)[1]


def open(
    model: str | Path,
    *,
    device: str = "auto",
    mode: str = "auto",
    trust: bool = False,
    flip_test: bool | None = None,
    threads: int | None = None,
    config: str | Path | None = None,
) -> EagerBackend | mmdet_backend.MmdetBackend:
    """Load a zoo name or checkpoint and make it ready; see `lite.backends.open_backend` for arguments and errors."""
    if mode == "int8":
        raise ConfigError(
            "mode: expected float32, float16 or bfloat16 for a network that is not exported, found int8; "
            "export it with --mode int8 --format onnx or openvino"
        )
    target = choose_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    if config is not None and not _describes_rtmdet(config):
        return mmdet_backend.open(model, config=config, device=device, trust=trust)
    network = load(model, trust=trust, config=config)
    chosen, why = choose_mode(network, mode, target)
    fold_batch_norm(network.eval())
    graph = build_graph(network, mode=chosen, flip_test=flip_test)
    graph.to(target, memory_format=torch.channels_last)
    if target.type == "cpu" and chosen == "float32":
        from lite.models.cspnext import ConvModule

        pack_convolutions(graph.network, {ConvModule: "swish"})
    packed = 0
    if target.type == "cpu":
        keep_memory()
        if chosen == "bfloat16":
            packed = quicken(graph.network)
        if graph.spec.task != "detect":
            graph.network = PlanarMaps(graph.network)
    return EagerBackend(graph, target, why, side_by_side=packed > 0 and SideBySide.suits(graph.spec))
