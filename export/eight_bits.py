"""What 8-bit numbers do to a network, shown eagerly: the yardstick for int8 files, made without what writes them."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

LARGEST = 127


@contextmanager
def eight_bits(network: nn.Module) -> Iterator[None]:
    """Inside, linear layers and convolutions round their weights and inputs to 8 bits; afterwards all is as before.

    Weights have a scale per output channel, inputs one scale, both symmetric about 0. Depthwise convolutions stay
    exact, as in the files we write. Weights are rounded one layer at a time, while it runs.
    """
    exact: dict[nn.Module, Tensor] = {}

    def before(layer: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        exact[layer] = layer.weight.data
        axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
        others = [i for i in range(layer.weight.ndim) if i != axis]
        layer.weight.data = _rounded(exact[layer], exact[layer].abs().amax(others, keepdim=True))
        return _rounded(args[0], args[0].abs().amax()), *args[1:]

    def after(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        layer.weight.data = exact.pop(layer)

    handles = []
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d) and getattr(layer, "groups", 1) == 1:
            handles += [layer.register_forward_pre_hook(before), layer.register_forward_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for layer, weight in exact.items():  # a layer that failed
            layer.weight.data = weight


def _rounded(x: Tensor, largest: Tensor) -> Tensor:
    scale = largest.clamp(min=1e-30) / LARGEST
    return (x / scale).round().clamp(-LARGEST, LARGEST) * scale
