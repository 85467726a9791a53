"""A pixel graph as a portable `torch.export` program with a dynamic batch."""

from pathlib import Path

import torch

from export.config import ExportConfig
from export.written import Calibration, Written
from lite.graph import PixelGraph


def to_pt2(graph: PixelGraph, path: Path, config: ExportConfig, calibration: Calibration) -> Written:
    """Write `graph` to `path` for batches of 1 to `config.batch_max`.

    Only the graph and its tensors are stored: no sample inputs (they would be a pickle), no stack traces (they would be
    paths of the machine it was written on).
    """
    height, width = graph.spec.input_hw
    pixels = torch.zeros((2, height, width, 3), dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=config.batch_max)
    with torch.no_grad():
        program = torch.export.export(graph, (pixels,), dynamic_shapes={"pixels": {0: batch}}, strict=False)
    for module in program.graph_module.modules():
        for node in module.graph.nodes:
            for key in ("stack_trace", "nn_module_stack", "torch_fn", "source_fn_stack", "from_node", "custom"):
                node.meta.pop(key, None)
    program._example_inputs = None
    torch.export.save(program, path)
    return Written()
