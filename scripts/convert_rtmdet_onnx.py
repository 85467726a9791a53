"""Rebuild RTMDet-nano (person) from an mmdeploy ONNX file and write it as our checkpoint.

    python scripts/convert_rtmdet_onnx.py rtmdet_nano_person.onnx checkpoints/person-nano.safetensors

The ONNX graph holds convolutions with the batch norms folded in. Each becomes a convolution with the folded weight and
a batch norm that only adds the folded bias (mean 0, variance 1 - eps, weight 1). Before writing, the raw head outputs
of both are compared on random canvases.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from safetensors.torch import save_file
from torch import nn

from lite.models.cspnext import ConvModule
from lite.models.rtmdet import STRIDES, RTMDet, rtmdet

TOLERANCE = 2e-3  # px and logits; the two runtimes sum in different orders


def convolutions_in_order(network: RTMDet) -> list[tuple[str, nn.Module]]:
    """(name, module) of every `ConvModule` and plain prediction convolution as `forward` meets them."""
    met: list[tuple[str, nn.Module]] = []
    inner = {id(module.conv) for module in network.modules() if isinstance(module, ConvModule)}
    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, ConvModule) or (isinstance(module, nn.Conv2d) and id(module) not in inner):
            hooks.append(module.register_forward_hook(lambda m, *_, name=name: met.append((name, m))))
    with torch.no_grad():
        network(torch.zeros(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    return met


def fill(network: RTMDet, graph: onnx.GraphProto) -> None:
    """Copy the graph's convolutions into the network; a difference in number, shape or name ends the script."""
    arrays = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    met = convolutions_in_order(network)
    if len(nodes) != len(met):
        sys.exit(f"expected {len(met)} convolutions as in RTMDet-nano, found {len(nodes)}; this is another network")
    for node, (name, module) in zip(nodes, met):
        weight, bias = (torch.from_numpy(arrays[key].copy()) for key in node.input[1:3])
        conv = module.conv if isinstance(module, ConvModule) else module
        named = node.input[1].removesuffix(".weight")
        if conv.weight.shape != weight.shape or ("." in named and named != name):
            sys.exit(f"{node.input[1]} {tuple(weight.shape)} does not fit {name} {tuple(conv.weight.shape)}")
        conv.weight.data.copy_(weight)
        if isinstance(module, ConvModule):
            module.bn.weight.data.fill_(1)
            module.bn.bias.data.copy_(bias)
            module.bn.running_mean.zero_()
            module.bn.running_var.fill_(1 - module.bn.eps)
        else:
            conv.bias.data.copy_(bias)


def largest_difference(network: RTMDet, model: onnx.ModelProto) -> float:
    """Largest |ours - graph| / (1 + |graph|) over logits and distances in px, on random canvases."""
    heads = {node.input[1]: node.output[0] for node in model.graph.node if node.op_type == "Conv"}
    names = [heads[f"bbox_head.rtm_{kind}.{level}.weight"] for kind in ("cls", "reg") for level in range(3)]
    for name in names:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    worst = 0.0
    for seed, (h, w) in enumerate([(320, 320), (192, 256), (416, 416)]):
        x = np.random.default_rng(seed).normal(size=(1, 3, h, w)).astype(np.float32)
        theirs = session.run(names, {"input": x})
        with torch.no_grad():
            raw = network(torch.from_numpy(x))
        for i, array in enumerate(theirs):
            ours = (raw["cls"] + raw["reg"])[i].numpy()
            array = array * STRIDES[i - 3] if i >= 3 else array
            worst = max(worst, float((np.abs(ours - array) / (1 + np.abs(array))).max()))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("onnx_file", type=Path)
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    content = args.onnx_file.read_bytes()
    model = onnx.load_from_string(content)
    network = rtmdet("nano", "person", name="person-nano").eval()
    fill(network, model.graph)
    worst = largest_difference(network, model)
    if worst > TOLERANCE:
        sys.exit(f"raw outputs differ from the graph by {worst:.2e}, more than {TOLERANCE}; nothing was written")
    metadata = {
        "hpe_lite_spec": json.dumps(network.spec.to_dict()),
        "converted_from_sha256": hashlib.sha256(content).hexdigest(),
    }
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, args.output, metadata)
    print(
        f"{args.output}: {args.output.stat().st_size} bytes, raw outputs differ from the graph by at most {worst:.2e}"
    )


if __name__ == "__main__":
    main()
