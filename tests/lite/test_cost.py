"""Operations are counted as torch counts them, and the heaviest product is found."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from lite.cost import ProductCounter


def counted(call, *inputs: torch.Tensor) -> ProductCounter:
    with torch.no_grad(), ProductCounter() as counter:
        call(*inputs)
    return counter


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Linear(6, 10), (2, 5, 6)),
        (nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2), (3, 4, 9, 7)),
        (nn.ConvTranspose2d(6, 5, 4, stride=2, padding=1), (2, 6, 5, 3)),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 5)), (1, 3, 8, 8)),
    ],
)
def test_as_torch_counts(module: nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.rand(shape)
    with FlopCounterMode(display=False) as reference:
        module(x)
    assert counted(module, x).flops() == reference.get_total_flops() > 0


def test_attention_counts_two_products() -> None:
    q, k, v = torch.rand(2, 3, 7, 4), torch.rand(2, 3, 9, 4), torch.rand(2, 3, 9, 4)
    counter = counted(F.scaled_dot_product_attention, q, k, v)
    assert counter.flops() == 2 * 3 * 2 * (7 * 4 * 9 + 7 * 9 * 4)
    assert counter.trunk_matrix() is None


def test_the_product_with_most_operations_names_the_trunk() -> None:
    network = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 16), nn.Linear(16, 9))
    counter = counted(network, torch.rand(5, 8))
    assert counter.trunk_matrix() == (5, 8, 16)  # twice; 16 x 9 is larger but stands once
    assert counter.flops() == 2 * 5 * (3 * 8 * 16 + 16 * 9)


def test_fake_tensors_cost_nothing() -> None:
    with torch.device("meta"):
        network = nn.Linear(10**5, 10**5)
    with FakeTensorMode(allow_non_fake_inputs=True):
        counter = counted(network, torch.empty(10**4, 10**5, device="meta"))
    assert counter.flops() == 2 * 10**14
