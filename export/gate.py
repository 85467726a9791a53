"""What an export and its repetition (`--check-only`) do alike: prepare what a file must give, then open and judge it.

A file is checked with one backend: the one `infer` would choose on this machine for this device, or the one asked for.
An ONNX file can be run by several; it is not refused because another installed runtime lacks its mode (ONNX Runtime has
no bfloat16 on the CPU). Which one it was, and its version, is in the report; `--check-only FILE --backend NAME` tries
another.
"""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from export.check import check, reference, with_rounding
from export.compare import Expected
from export.crops import check_crops
from lite.artifact import ArtifactSpec
from lite.backends import BACKENDS, choose_backend, open_backend
from lite.backends.eager_backend import build_graph
from lite.backends.fold import fold_batch_norm
from lite.check_report import report_lines
from lite.graph import PixelGraph
from lite.network import any_size
from lite.skeletons import load_skeleton

# Crops to check with: many where a crop is cheap, few where it takes seconds.
CHECK_CROPS, CHECK_CROPS_LARGE, LARGE_INPUT_PX = 12, 3, 512 * 512
LONGER = 3  # steps by which the second size of a network that takes any is longer


def prepare(
    network: nn.Module, *, mode: str, flip_test: bool, batch_max: int, check_images: str | None
) -> tuple[Expected, PixelGraph]:
    """Run the network in float32, convert it to the mode in place, and run it again to see what rounding does.

    Args:
        network: float32, eval mode; afterwards it belongs to the graph. No other copy of its weights is made, but for
            the one in the mode.

    Returns:
        what a file must give, and the graph in the mode.
    """
    graph = build_graph(network, mode="float32", flip_test=flip_test)
    height, width = graph.spec.input_hw
    count = CHECK_CROPS_LARGE if height * width > LARGE_INPUT_PX else CHECK_CROPS
    pixels = check_crops(graph.spec, check_images, min(count, batch_max))
    expected = reference(graph, pixels, mode, _sigmas(graph.spec))
    if any_size(graph.spec):
        longer = replace(graph.spec, input_hw=(height, width + LONGER * graph.spec.frame.multiple))
        some = check_crops(longer, check_images, min(count, batch_max, CHECK_CROPS_LARGE))
        expected = replace(expected, others=(reference(graph, some, mode, _sigmas(graph.spec)),))
    fold_batch_norm(network)
    graph = build_graph(network, mode=mode, flip_test=flip_test)
    return with_rounding(expected, graph), graph


def judge(path: Path, expected: Expected, *, backend: str, device: str, trust: bool) -> dict[str, Any]:
    """Open the file, compare it, print the report and return it; see `export.check.check`."""
    name = choose_backend(path.suffix.lower(), backend, device)
    opened = open_backend(path, backend=name, device=device, trust=trust)
    try:
        report = check(opened, expected)
    finally:
        opened.close()
    report["runtime"] = {"backend": name, "version": _version(name)}
    print("\n".join(report_lines(report)))
    return report


def _version(backend: str) -> str:
    library = BACKENDS[backend][1]
    return torch.__version__ if library is None else str(import_module(library).__version__)


def _sigmas(spec: ArtifactSpec) -> np.ndarray:
    """OKS constants of the spec's skeleton; a middling one for keypoints without names."""
    return np.asarray(load_skeleton(spec.skeleton).oks_sigmas if spec.skeleton else [0.05])
