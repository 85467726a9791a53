"""Read PP-TinyPose 256x192 from its ONNX graph and write it as weights of `lite.models.lite_hrnet`.

    python scripts/convert_tinypose_onnx.py pp_tinypose_256x192.onnx checkpoints/pose17-small.safetensors

The graph keeps every batch norm folded into the convolution before it, as an addition named `batch_norm2d_<n>`; <n>
counts in the order in which the network runs, the order in which `fill` reads them. The file is written only if our
network gives the heatmaps of ONNX Runtime within 1e-4.
"""

import argparse
import json
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from safetensors.torch import save_file
from torch import nn

from lite.models.lite_hrnet import CHANNELS, Down, LiteHRNet, Order, Separable, ShuffleUnit, pose17_small

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


def fill(network: LiteHRNet, convolutions: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
    """Put the convolutions into the network, in the order in which it runs, arranged for its order of channels."""
    source = iter(convolutions)
    natural = [tuple(range(c)) for c in CHANNELS]

    def put(conv: nn.Conv2d, reads: Order | None = None, gives: Order | None = None, factor: float = 1.0) -> None:
        weight, bias = (torch.from_numpy(value.astype(np.float32)) * factor for value in next(source))
        weight, bias = weight.reshape(-1, *conv.weight.shape[1:]) if conv.groups > 1 else weight, bias.flatten()
        if gives is not None:
            weight, bias = weight[list(gives)], bias[list(gives)]
        if reads is not None:
            weight = weight[:, list(reads)]
        conv.weight.data = weight.reshape(conv.weight.shape).clone()
        conv.bias.data = bias.reshape(conv.bias.shape).clone()

    def put_separable(pair: Separable, reads: Order, gives: Order | None = None, factor: float = 1.0) -> None:
        put(pair[0], gives=reads)
        put(pair[1], reads, gives, factor)

    def put_down(down: Down, reads: Order, gives: Order, factor: float) -> None:
        pairs = [layer for layer in down if isinstance(layer, Separable)]
        for pair in pairs:
            last = pair is pairs[-1]
            put_separable(pair, reads, gives if last else None, factor if last else 1.0)
            reads = tuple(range(len(reads)))

    def put_unit(unit: ShuffleUnit) -> None:
        half = len(unit.order) // 2
        weight, bias = (torch.from_numpy(value.astype(np.float32)) for value in next(source))
        unit.mix.weight.data.zero_()
        for place, number in enumerate(unit.order):
            if number >= half:  # the original reads the upper half alone
                unit.mix.weight.data[:, place, 0, 0] = weight[:, number - half, 0, 0]
        unit.mix.bias.data = bias.flatten()
        put_separable(unit.conv, tuple(range(half)))

    stem = network.stem
    weight, bias = next(source)
    halves = ((weight[:16], bias.reshape(-1)[:16]), (weight[16:], bias.reshape(-1)[16:]))
    for conv, (w, b) in zip((stem.first, stem.second), halves):
        conv.weight.data = torch.from_numpy(w.astype(np.float32))
        conv.bias.data = torch.from_numpy(b.astype(np.float32))
    put_separable(stem.down, tuple(range(16)))
    put(stem.expand)
    put_separable(stem.reduce, tuple(range(32)))
    newest = (*range(0, 32, 2), *range(1, 32, 2))  # the stem ends with a shuffle
    orders: list[Order] = []
    for stage in network.stages:
        for entry in stage.entries:
            put_separable(entry, newest)
        for block in stage.blocks:
            for branch in block["branches"]:
                for unit in branch:
                    put_unit(unit)
            orders = [branch[-1].next_order for branch in block["branches"]]
            for i, row in enumerate(block["fusion"].rows):
                for j, order in enumerate(orders):
                    if j > i:
                        put(row[str(j)], order, orders[i])
                    elif j < i:
                        # The original adds the finest branch twice into every coarser one.
                        put_down(row[str(j)], order, orders[i], 2.0 if j == 0 else 1.0)
        newest = orders[-1]
    for level, narrow in zip(range(len(orders) - 1, -1, -1), network.head.narrow):
        put_separable(narrow, orders[level], orders[level - 1] if level else natural[0])
    put(network.head.final)
    if next(source, None) is not None:
        raise SystemExit("the graph has more convolutions than the network")


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
