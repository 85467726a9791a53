"""Made-up weights for small networks of every kind, which behave like trained ones; see scripts/random_weights.py.

Scales are set while bundled photographs run through the network: norms get the statistics of their inputs, last layers
give logits, heatmaps and tags of the size that trained ones give.
"""

from collections.abc import Callable, Iterable
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from export.crops import check_crops
from scripts.random_weights import fill, normalised, scale, set_scales, settle

CROPS = 4


@torch.inference_mode()
def enliven(network: nn.Module, seed: int = 0) -> nn.Module:
    """Draw every tensor of a network that has its spec; it is changed in place and returned in eval mode."""
    network = network.eval().requires_grad_(False)
    transformer = any(hasattr(getattr(network, "backbone", None), name) for name in ("layers", "blocks"))
    if transformer and network.spec.task == "pose":
        settle(network, seed)
        return network
    numbers = {name: value.clone() for name, value in network.named_buffers() if not value.is_floating_point()}
    fill(network, torch.Generator().manual_seed(seed))
    for name, value in numbers.items():  # orders of channels are no weights
        network.get_buffer(name).copy_(value)
    pixels = check_crops(network.spec, None, CROPS)
    x = normalised(network, pixels if network.spec.color_order == "RGB" else pixels[..., ::-1].copy())
    if transformer:
        set_scales(network, x)
    else:
        with _hooked(_scalers(network)):
            network(x)
    with _hooked(_last_layers(network)):
        network(x)
    return network


@contextmanager
def _hooked(hooks: Iterable) -> Iterable[None]:
    hooks = list(hooks)
    yield
    for hook in hooks:
        hook.remove()


def _scalers(network: nn.Module) -> Iterable:
    """Norms take the statistics of their inputs; where there are none, convolutions give numbers of size 1."""
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]

    def take_statistics(norm: nn.BatchNorm2d, args: tuple[Tensor]) -> None:
        spread, mean = torch.var_mean(args[0], (0, 2, 3))
        spread = spread.clamp(min=0.2 * spread.mean())  # a channel that hardly varies is no reason to enlarge it
        norm.running_mean.mul_(spread.sqrt()).add_(mean)
        norm.running_var.mul_(spread)

    for norm in norms:
        norm.bias.add_(0.5)  # undone: of so few channels too many would be silent
        yield norm.register_forward_pre_hook(take_statistics)
    for layer in network.modules():
        if not norms and isinstance(layer, nn.Conv2d):
            yield layer.register_forward_hook(lambda layer, args, output: scale(layer, output, 1.0))


def _last_layers(network: nn.Module) -> Iterable:
    """Hooks that give what leaves the network its size."""
    task, parts = network.spec.task, dict(network.named_modules())
    if task == "detect":
        exponential = network.bbox_head.exp_on_reg
        for level in network.bbox_head.rtm_cls:
            yield level.register_forward_hook(_spread(-2.5, 1.0))
        for level in network.bbox_head.rtm_reg:
            yield level.register_forward_hook(_spread(*((0.7, 0.1) if exponential else (3.0, 0.1))))
    elif task == "pose-bottom-up":
        keypoints = network.num_keypoints
        yield network.init_heatmaps_head.register_forward_hook(
            _spread([0.1] * keypoints + [0.0] * keypoints, [0.15] * keypoints + [2.0] * keypoints)
        )
        for name in (name for name in parts if name.startswith("deconv_layers") and name.endswith("final_layer")):
            yield parts[name].register_forward_hook(_spread(0.1, 0.15))
    elif task == "segment":
        yield network.decode_head.conv_seg.register_forward_hook(_spread(0.0, 3.0))
    elif task == "classify":

        def widen(layer: nn.Linear, args: tuple[Tensor], output: Tensor) -> None:
            factor = 2.0 / output.std(1).mean()
            layer.weight.mul_(factor)
            layer.bias.mul_(factor)

        yield network.classification_head.classifier.register_forward_hook(widen)
    else:
        yield network.head.final.register_forward_hook(_spread(0.1, 0.15))


def _spread(mean: float | list[float], deviation: float | list[float]) -> Callable:
    """A hook after which each channel of a convolution has this mean and deviation."""

    def change(layer: nn.Conv2d, args: tuple[Tensor], output: Tensor) -> Tensor:
        spread, middle = torch.var_mean(output, (0, 2, 3))
        factor = torch.tensor(deviation) / spread.clamp(min=0.1 * spread.mean()).sqrt()
        layer.weight.mul_(factor.view(-1, 1, 1, 1))
        layer.bias.sub_(middle).mul_(factor).add_(torch.tensor(mean))
        return layer.forward(*args)

    return change
