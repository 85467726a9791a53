"""A pixel graph as an ONNX file with a dynamic batch.

`onnx_model` gives the graph in memory, `to_onnx` writes it as an artifact; the writers of OpenVINO and TensorRT files
start from one of them:

    model = onnx_model(graph, config.batch_max)  # onnx_ir.Model in the graph's own mode; the weights are not copied
    write_onnx(model, path)  # plain file; weights beside it from 2 GB on
    to_onnx(graph, path, config, calibration)  # the same with our metadata, and quantised when the mode is int8

What to rely on: input `pixels` (batch, h, w, 3) uint8; outputs named and typed as `graph.spec.outputs`; every node is
named `<module path>/<operator>_<number>`, so what begins with `network` is the network and the rest is normalisation
and decode, in float32 and int64; the network's weights are in the spec's mode (int8: float32 until quantised); only
standard operators (domain "", opset `OPSET`); no paths, stack traces or documentation strings.
"""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import lite
from export.config import ExportConfig
from export.shapes import BATCH, COLUMNS, ROWS, dynamic_shapes, example
from export.written import Calibration, Written
from lite.backends.artifact_file import SPEC_KEY, embedded_spec
from lite.errors import MissingExtraError
from lite.graph import PixelGraph

if TYPE_CHECKING:
    import onnx_ir

OPSET = 22  # the first in which convolutions may be bfloat16
# A protobuf message ends at 2 GiB; what is larger keeps its weights in `<name>.data` beside it.
LARGEST_FILE = 2**31 - 2**24


def to_onnx(graph: PixelGraph, path: Path, config: ExportConfig, calibration: Calibration) -> Written:
    """Write `graph` to `path` for batches of 1 to `config.batch_max`, with its spec in the file's metadata.

    Raises:
        MissingExtraError: the ONNX libraries are not installed.
    """
    model = onnx_model(graph, config.batch_max)
    if graph.spec.mode == "int8":
        from export.quantise import quantise

        model = quantise(model, graph.spec, calibration())
    spec = replace(graph.spec, format="onnx", batch_range=(1, config.batch_max))
    model.metadata_props[SPEC_KEY] = json.dumps(embedded_spec(spec))
    write_onnx(model, path)
    import onnx

    return Written(versions={"onnx": onnx.__version__, "onnx-opset": str(OPSET)})


def onnx_model(graph: PixelGraph, batch_max: int) -> "onnx_ir.Model":
    """The graph as ONNX, its weights shared with `graph`.

    Raises:
        MissingExtraError: the ONNX libraries are not installed.
    """
    try:
        import onnx_ir  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as problem:
        raise MissingExtraError(problem.name or "onnxscript", "onnx", "the export to ONNX") from None
    pixels, shapes = example(graph.spec, 2, graph.factor.device), dynamic_shapes(graph.spec, batch_max)
    with torch.no_grad(), _quiet():
        program = torch.export.export(graph, (pixels,), dynamic_shapes=shapes, strict=False)
        model = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=["pixels"],
            output_names=[output.name for output in graph.spec.outputs],
            verbose=False,
        ).model
    _tidy(model)
    return model


def write_onnx(model: "onnx_ir.Model", path: Path) -> None:
    """Write a model, in one file if it fits."""
    import onnx_ir

    size = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    external = f"{path.name}.data" if size > LARGEST_FILE else None
    onnx_ir.save(model, path, external_data=external)


def _tidy(model: "onnx_ir.Model") -> None:
    """Names that say where a node comes from, and nothing of the machine the file was made on."""
    import onnx_ir

    model.producer_name, model.producer_version = "hpe-lite", lite.__version__
    model.doc_string = model.graph.doc_string = None
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.graph.name = "pixels_to_coordinates"
    sides = zip(map(str, model.graph.inputs[0].shape), (BATCH, ROWS, COLUMNS))
    names = {side: name for side, name in sides if not side.isdigit()}
    for number, node in enumerate(model.graph.all_nodes()):
        scopes = json.loads(node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]").replace("'", '"'))
        where = scopes[-2] if len(scopes) > 1 and scopes[-2][:1].isalpha() else "graph"
        node.name = f"{where}/{node.op_type}_{number}"
        node.doc_string = None
        node.metadata_props.clear()
    for value in _values(model):
        value.metadata_props.clear()
        value.doc_string = None
        if value.shape is not None:
            dims = (names.get(str(dim), dim) for dim in value.shape)
            value.shape = onnx_ir.Shape(dims)


def _values(model: "onnx_ir.Model") -> list["onnx_ir.Value"]:
    graph = model.graph
    made = [value for node in graph.all_nodes() for value in node.outputs]
    return [*graph.inputs, *graph.initializers.values(), *made]


@contextmanager
def _quiet() -> Iterator[None]:
    """torch's exporter warns of its own affairs (torchvision is missing, tree specs); none of it concerns the user."""
    logs = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(logs, levels):
            log.setLevel(level)
