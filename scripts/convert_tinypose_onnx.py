"""Read PP-TinyPose 256x192 from its ONNX graph and write it as weights of `lite.models.lite_hrnet`.

    python scripts/convert_tinypose_onnx.py pp_tinypose_256x192.onnx checkpoints/pose17-small.safetensors

The graph keeps every batch norm folded into the convolution before it, as an addition named `batch_norm2d_<n>`; <n>
counts in the order in which the network runs, which is the order in which ours registers its convolutions. The file is
written only if our network gives the heatmaps of ONNX Runtime within 1e-4.
"""

import argparse
import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from safetensors.torch import save_file
from torch import nn

from lite.models.lite_hrnet import Fusion, LiteHRNet, pose17_small

TOLERANCE = 1e-4


def read_convolutions(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """(weight, bias) of every convolution, in the order in which the network runs."""
    graph = onnx.load(path).graph
    constants = {c.name: numpy_helper.to_array(c) for c in graph.initializer}
    origin = {n.output[0]: n.input[0] for n in graph.node if n.op_type in ("Cast", "Reshape")}
    addition = {name: n for n in graph.node if n.op_type == "Add" for name in n.input}

    def constant(name: str) -> np.ndarray:
        while name not in constants:
            name = origin[name]
        return constants[name]

    found = {}
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        add = addition[node.output[0]]
        bias = next(name for name in add.input if name != node.output[0])
        number = re.match(r"batch_norm2d_(\d+)\.", add.output[0])
        found[int(number[1]) if number else len(origin)] = constant(node.input[1]), constant(bias)  # last: no norm
    return [found[n] for n in sorted(found)]


def fill(network: LiteHRNet, convolutions: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Put the convolutions into the network, in order."""
    ours = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    for conv, (weight, bias) in zip(ours, convolutions, strict=True):
        conv.weight.data = torch.from_numpy(weight.astype(np.float32)).reshape(conv.weight.shape)
        conv.bias.data = torch.from_numpy(bias.astype(np.float32)).reshape(conv.bias.shape)
    # The original adds the finest branch twice into every coarser one; here the last convolution there is doubled.
    for fusion in (m for m in network.modules() if isinstance(m, Fusion)):
        for row in list(fusion.rows)[1:]:
            last = row["0"][-1][1]
            last.weight.data *= 2
            last.bias.data *= 2


def largest_difference(network: LiteHRNet, path: Path) -> float:
    """Largest difference to ONNX Runtime in the heatmaps of random pictures."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal((3, 3, 256, 192)).astype(np.float32)
    expected = np.concatenate([session.run(None, {"image": one[None]})[0] for one in x])
    with torch.inference_mode():
        return float(np.abs(network(torch.from_numpy(x))["heatmaps"].numpy() - expected).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("onnx", type=Path)
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    network = pose17_small()
    fill(network, read_convolutions(args.onnx))
    difference = largest_difference(network, args.onnx)
    if difference > TOLERANCE:
        raise SystemExit(
            f"heatmaps differ by {difference:.1e} from ONNX Runtime, allowed {TOLERANCE:.0e}; nothing written"
        )
    # The source stores 16-bit values, so 16 bits hold them exactly.
    tensors = {name: value.to(torch.float16).contiguous() for name, value in network.state_dict().items()}
    save_file(tensors, args.output, {"hpe_lite_spec": json.dumps(network.spec.to_dict())})
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.1f} MB, heatmaps within {difference:.1e} of ONNX Runtime")


if __name__ == "__main__":
    main()
