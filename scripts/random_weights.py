"""Make up weights for a transformer of the zoo that behave like trained ones, to try exports without its real weights.

    python scripts/random_weights.py --model sapiens-0.3b-wholebody133 --seed 0 --output random.safetensors

Plain random weights are a poor trial: activations grow or die with depth, tokens lose their content, heatmaps have
dozens of equal peaks that any rounding turns over. Here every tensor is drawn (no zeros and ones are left), the scale
of each branch and norm is set while bundled photographs run through the network, and the last layer is fitted so that
each keypoint peaks at a place that was drawn for it and the photograph. One copy of the weights is held, in
float32. The same seed, machine and number of threads give the same file.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.crops import PEOPLE, check_crops
from lite.checkpoints import HINTS_KEY, SPEC_KEY
from lite.codecs import build_codec
from lite.errors import HpeLiteError, ModelError
from lite.models.find import zoo_row
from lite.models.vit import Attention

KINDS = {torch.float32: "F32", torch.int64: "I64"}  # as safetensors files spell them
LARGE_INPUT_PX = 512 * 512
CROPS, CROPS_LARGE, CHUNK = 24, 4, 8
BRANCHES = ("attn", "ffn", "mlp")  # what a block adds to its stream
ATTENTION_GAIN = 1.3  # of queries and keys; their products then spread by its square, so that attention chooses
FEATURE_NOISE = 0.05  # the fit of the last layer holds when features are off by this share of their size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="zoo name of a Sapiens, ViTPose or HAP network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    try:
        network = random_network(args.model, args.seed)
    except HpeLiteError as problem:
        sys.exit(str(problem))
    write(network, args.output)
    print(f"wrote {args.output} ({args.output.stat().st_size / 1e6:.0f} MB)")


def random_network(model: str, seed: int) -> nn.Module:
    """The zoo network with made-up weights, in eval mode.

    Raises:
        ModelError: not a transformer that finds keypoints.
    """
    row = zoo_row(model)
    if row.family not in ("sapiens", "vitpose", "hap"):
        raise ModelError(
            f"{model}: expected a Sapiens, ViTPose or HAP network, found {row.family}; use its own weights"
        )
    network = row.build().eval().requires_grad_(False)
    settle(network, seed)
    return network


@torch.inference_mode()
def settle(network: nn.Module, seed: int) -> None:
    """Draw every tensor, then set scales and the last layer from pictures; `network` is changed in place.

    All of it on the network's own device; each kind of device draws other numbers.
    """
    device = next(network.parameters()).device
    with device:
        random = torch.Generator(device).manual_seed(seed)
        fill(network, random)
        large = network.spec.input_hw[0] * network.spec.input_hw[1] > LARGE_INPUT_PX
        pixels = check_crops(network.spec, None, CROPS_LARGE if large else CROPS)
        set_scales(network, normalised(network, pixels[:2]))
        fit_last_layer(network, pixels, 1 if large else CHUNK, random)


def fill(network: nn.Module, random: torch.Generator) -> None:
    """Draw every tensor: weights by the number of their inputs, norms about 1, biases and means about 0."""
    for module in network.modules():
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            if not tensor.is_floating_point():
                tensor.fill_(1000)  # batches a norm has seen
            elif name == "pos_embed":
                tensor.copy_(positions(module.grid_hw, tensor, random))
            elif tensor.ndim >= 2:
                inputs = tensor[0].numel() / (4 if isinstance(module, nn.ConvTranspose2d) else 1)
                tensor.normal_(generator=random).mul_(inputs**-0.5)
                # Outputs differ in size, as those of trained layers do.
                tensor.mul_(torch.randn(len(tensor), *[1] * (tensor.ndim - 1), generator=random).mul_(0.3).exp_())
            elif name == "bias" or name == "running_mean":
                tensor.normal_(generator=random).mul_(0.1)
            else:  # the weight of a norm, or its running variance
                tensor.normal_(generator=random).mul_(0.2).exp_()
        if isinstance(module, Attention):
            module.qkv.weight[: 2 * module.proj.in_features].mul_(ATTENTION_GAIN)
        if isinstance(module, nn.BatchNorm2d):
            module.bias.sub_(0.5)  # most units are silent at most places


def positions(grid_hw: tuple[int, int], like: Tensor, random: torch.Generator) -> Tensor:
    """Position embeddings of the shape of `like` (1, rows, C): waves of random length and direction, deviation 1.

    Neighbours are alike and any place can be read out of them. A class row before them is noise.
    """
    height, width = grid_hw
    y, x = torch.meshgrid(torch.arange(height) / width, torch.arange(width) / width, indexing="ij")
    waves = 6.0 * torch.randn(2, like.shape[2], generator=random)
    angle = y.reshape(-1, 1) * waves[0] + x.reshape(-1, 1) * waves[1]  # (h*w, C)
    grid = 2**0.5 * torch.sin(angle + 6.2832 * torch.rand(like.shape[2], generator=random))
    grid += 0.1 * torch.randn(grid.shape, generator=random)
    first = 0.3 * torch.randn(like.shape[1] - len(grid), like.shape[2], generator=random)
    return torch.cat([first, grid])[None]


def targets(network: nn.Module, pictures: int, random: torch.Generator) -> Tensor:
    """Where each keypoint is to peak in crops of each photograph: (pictures, K, 2) px of the crop.

    Every keypoint has its region, as those of upright people have, and within it another place in each photograph.
    """
    count = last_layer(network).out_channels
    place = 0.15 + 0.7 * torch.rand(1, count, 2, generator=random)
    place = place + 0.2 * torch.rand(pictures, count, 2, generator=random) - 0.1
    return place * torch.tensor(network.spec.input_hw[::-1])


def normalised(network: nn.Module, pixels: np.ndarray) -> Tensor:
    """(B, h, w, 3) uint8 RGB -> (B, 3, h, w) float32 as the network takes it."""
    mean, std = torch.tensor(network.spec.mean), torch.tensor(network.spec.std)
    return ((torch.from_numpy(pixels).to(mean.device).float() - mean) / std).permute(0, 3, 1, 2).contiguous()


def set_scales(network: nn.Module, x: Tensor) -> None:
    """Run `x` once; on the way each branch gets its share of the stream's size, and each batch norm its statistics."""
    trunk = network.backbone
    blocks = getattr(trunk, "blocks", None) or trunk.layers
    stream = {}
    share = len(blocks) ** -0.5

    def remember(module: nn.Module, args: tuple[Tensor]) -> None:
        stream["size"] = size_of(args[0])

    def scale_branch(module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        return scale(
            [part for part in module.modules() if isinstance(part, nn.Linear)][-1], output, share * stream["size"]
        )

    def scale_patches(module: nn.Conv2d, args: tuple[Tensor], output: Tensor) -> Tensor:
        return scale(module, output, 1.0)

    def take_statistics(module: nn.BatchNorm2d, args: tuple[Tensor]) -> None:
        spread, mean = torch.var_mean(args[0], (0, 2, 3))
        module.running_mean.mul_(spread.sqrt()).add_(mean)  # drawn deviations from what is true of these pictures
        module.running_var.mul_(spread)

    projection = next(part for part in trunk.patch_embed.modules() if isinstance(part, nn.Conv2d))
    hooks = [projection.register_forward_hook(scale_patches)]
    for block in blocks:
        hooks.append(block.register_forward_pre_hook(remember))
        hooks += [part.register_forward_hook(scale_branch) for name, part in block.named_children() if name in BRANCHES]
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    hooks += [norm.register_forward_pre_hook(take_statistics) for norm in norms]
    network(x)
    for hook in hooks:
        hook.remove()


def size_of(x: Tensor) -> float:
    return x.square().mean().sqrt().item()


def scale(layer: nn.Module, output: Tensor, wanted: float) -> Tensor:
    """Make the layer's output as large as wanted; returns what it would have been then."""
    factor = wanted / size_of(output)
    layer.weight.mul_(factor)
    layer.bias.mul_(factor)
    return output.mul_(factor)


def last_layer(network: nn.Module) -> nn.Conv2d:
    """The convolution that gives the heatmaps."""
    return next(module for name, module in network.named_modules() if name.endswith("head.final_layer"))


def fit_last_layer(network: nn.Module, pixels: np.ndarray, chunk: int, random: torch.Generator) -> None:
    """Ridge regression from the features before the last layer to Gaussians at `targets`; then peaks of 0.5 to 1."""
    layer = last_layer(network)
    codec = build_codec(network.spec.codec)
    kernel = torch.ones(1, 1)
    if layer.kernel_size == (3, 3):  # not symmetric, so that a transposed kernel shows
        kernel = torch.outer(torch.tensor([0.15, 0.55, 0.3]), torch.tensor([0.2, 0.5, 0.3]))
    features: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda module, args: features.append(smoothed(args[0], kernel)))
    width, count = layer.in_channels + 1, layer.out_channels
    products, wanted = torch.zeros(width, width, dtype=torch.float64), torch.zeros(width, count, dtype=torch.float64)
    cells = 0
    points = targets(network, len(PEOPLE), random)
    maps, _ = codec.encode(points, torch.ones(points.shape[:2]))  # (pictures, K, H, W)
    for start in range(0, len(pixels), chunk):
        network(normalised(network, pixels[start : start + chunk]))
        target = maps[torch.arange(start, min(start + chunk, len(pixels))) % len(PEOPLE)]
        f = features.pop().movedim(1, -1).flatten(0, 2)
        f = torch.cat([f, torch.ones(len(f), 1)], 1)  # the last one is the bias
        products += (f.T @ f).double()
        wanted += (f.T @ target.movedim(1, -1).flatten(0, 2)).double()
        cells += len(f)
    hook.remove()
    ridge = FEATURE_NOISE**2 * (products.diagonal() + 1e-3 * products.diagonal().mean())
    ridge[-1] = 1e-3 * cells
    solution = torch.linalg.solve(products + ridge.diag(), wanted).float()  # (C + 1, K)
    layer.weight.copy_(solution[:-1].T[:, :, None, None] * kernel)
    layer.bias.copy_(solution[-1])
    peaks = network(normalised(network, pixels[: min(chunk, 2)]))["heatmaps"].amax((0, 2, 3)).clamp(min=0.05)
    factor = (0.5 + 0.5 * torch.rand(count, generator=random)) / peaks
    layer.weight.mul_(factor[:, None, None, None])
    layer.bias.mul_(factor)


def smoothed(features: Tensor, kernel: Tensor) -> Tensor:
    """(B, C, H, W) blurred by a small kernel, which stands in for the fit of every one of a convolution's taps."""
    if kernel.numel() == 1:
        return features
    weight = kernel.expand(features.shape[1], 1, *kernel.shape)
    return F.conv2d(features, weight, padding=1, groups=features.shape[1])


def write(network: nn.Module, path: Path) -> None:
    """As `lite.checkpoints.save_network`, one tensor at a time."""
    state = network.state_dict()
    header: dict[str, Any] = {
        "__metadata__": {
            "format": "pt",
            SPEC_KEY: json.dumps(network.spec.to_dict(), allow_nan=False),
            HINTS_KEY: json.dumps(network.hints, allow_nan=False),
        }
    }
    place = 0
    for name, tensor in state.items():
        end = place + tensor.nbytes
        header[name] = {"dtype": KINDS[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for tensor in state.values():
                file.write(tensor.contiguous().numpy().data)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
