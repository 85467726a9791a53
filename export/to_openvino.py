"""A pixel graph as an OpenVINO model: `x.xml`, the graph, and `x.bin`, its weights.

The graph is written in float32 with the network's weights stored in the mode's precision; what the network computes in
is asked of the runtime when the file is opened (see `lite.backends.openvino_backend`). So the heatmaps leave the last
convolution unrounded, and a processor without bfloat16 still computes with the same weights.
"""

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from export.config import ExportConfig
from export.to_onnx import onnx_model, write_onnx
from export.written import Calibration, Written
from lite.backends.artifact_file import SPEC_KEY, embedded_spec
from lite.backends.openvino_parts import DECODE, NORMALISE, stages
from lite.errors import MissingExtraError
from lite.graph import PixelGraph
from lite.network import LARGEST_ASPECT, any_size

if TYPE_CHECKING:
    import onnx_ir
    import openvino

LEAST_COMPRESSED = 8  # numbers; smaller constants are epsilons and sizes, which stay exact


def to_openvino(graph: PixelGraph, path: Path, config: ExportConfig, calibration: Calibration) -> Written:
    """Write `graph` to `path` (.xml) and the weights beside it (.bin), for batches of 1 to `config.batch_max`.

    Raises:
        MissingExtraError: OpenVINO or the ONNX libraries are not installed.
    """
    try:
        import openvino
    except ImportError:
        raise MissingExtraError("openvino", "cpu", "the export to OpenVINO") from None
    spec = graph.spec
    larger = LARGEST_ASPECT if any_size(spec) else 1
    graph.network.float()  # exact: the weights keep the values they were rounded to
    graph.dtype = torch.float32
    onnx = onnx_model(graph, config.batch_max)
    _check_ends(onnx)
    if spec.mode == "int8":
        from export.quantise import quantise

        onnx = quantise(onnx, spec, calibration())
    # Beside the artifact, where there is room for its size.
    with tempfile.TemporaryDirectory(prefix=".onnx-", dir=path.parent) as folder:
        write_onnx(onnx, Path(folder) / "graph.onnx")
        model = openvino.Core().read_model(Path(folder) / "graph.onnx")
        sides = [openvino.Dimension(side, side * larger) for side in spec.input_hw]
        model.reshape([openvino.Dimension(1, config.batch_max), *sides, 3])
        if spec.mode in ("float16", "bfloat16"):
            _compress(model, openvino.Type.f16 if spec.mode == "float16" else openvino.Type.bf16)
        described = replace(spec, format="openvino", batch_range=(1, config.batch_max))
        model.set_rt_info(json.dumps(embedded_spec(described)), SPEC_KEY)
        openvino.save_model(model, path, compress_to_fp16=False)
    return Written(versions={"openvino": openvino.__version__.partition("-")[0]})


def _check_ends(model: "onnx_ir.Model") -> None:
    """The runtime takes what lies between the first and the last convolution for the network: all must belong to it."""
    for node in model.graph.all_nodes():
        if node.op_type in ("Conv", "ConvTranspose") and not node.name.startswith("network"):
            raise AssertionError(f"{node.name}: a convolution outside the network would be rounded")


def _compress(model: "openvino.Model", kind: "openvino.Type") -> None:
    """Store the network's weights as `kind`; whoever reads them gets float32."""
    from openvino import Type, opset13

    stage = stages(model)
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Constant" or node.get_output_element_type(0) != Type.f32:
            continue
        readers = list(node.output(0).get_target_inputs())
        around = any(stage.get(reader.get_node().get_friendly_name()) in (NORMALISE, DECODE) for reader in readers)
        if node.get_byte_size() >= 4 * LEAST_COMPRESSED and not around:
            stored = opset13.constant(node.data, kind, name=node.get_friendly_name())
            read = opset13.convert(stored, "f32", name=f"{node.get_friendly_name()}/read")
            for reader in readers:
                reader.replace_source_output(read.output(0))
