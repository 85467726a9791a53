"""A pixel graph as a `torch.export` program with a dynamic batch: portable, or compiled for this machine."""

import json
from dataclasses import replace
from pathlib import Path

import torch

from export.compile_pt2 import check_compiler, compile_program
from export.config import ExportConfig
from export.shapes import dynamic_shapes, example
from export.written import Calibration, Written
from lite.backends.artifact_file import SPEC_KEY, embedded_spec
from lite.backends.devices import choose_device
from lite.graph import PixelGraph

TUNED_BATCH = 8  # compiled code is tuned for it and runs at any batch


def check_ready(config: ExportConfig) -> None:
    """Ask for what compiling needs, before the network is loaded.

    Raises:
        ConfigError: there is no C++ compiler, or no such device.
    """
    if config.compile:
        check_compiler()
        choose_device(config.device)


def to_pt2(graph: PixelGraph, path: Path, config: ExportConfig, calibration: Calibration) -> Written:
    """Write `graph` to `path` for batches of 1 to `config.batch_max`.

    Only the graph, its tensors and its description are stored: no sample inputs (they would be a pickle), no stack
    traces (they would be paths of the machine it was written on).
    """
    device = choose_device(config.device) if config.compile else torch.device("cpu")
    graph.to(device)
    pixels = example(graph.spec, min(TUNED_BATCH, config.batch_max), device)
    shapes = dynamic_shapes(graph.spec, config.batch_max)
    with torch.no_grad():
        program = torch.export.export(graph, (pixels,), dynamic_shapes=shapes, strict=False)
    for module in program.graph_module.modules():
        for node in module.graph.nodes:
            for key in ("stack_trace", "nn_module_stack", "torch_fn", "source_fn_stack", "from_node", "custom"):
                node.meta.pop(key, None)
    spec = replace(graph.spec, format="pt2", batch_range=(1, config.batch_max))
    if config.compile:
        return compile_program(program, pixels, path, spec)
    program._example_inputs = None
    # Of sides that are multiples the range of the factor says all, and an expression is no plain name.
    for side in [side for side in program.range_constraints if not side.is_symbol]:
        del program.range_constraints[side]
    torch.export.save(program, path, extra_files={f"{SPEC_KEY}.json": json.dumps(embedded_spec(spec))})
    return Written()
