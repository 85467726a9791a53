"""The quick form of a transformer on the CPU gives the numbers of the plain one, in modules and in programs."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lite.backends import cpu_bfloat16
from lite.backends.cpu_bfloat16 import PackedDeconvolution, PackedLinear, keep_memory, quicken, quicken_program
from lite.backends.fold import fold_batch_norm
from lite.checkpoints import load_network
from lite.models.sapiens import SapiensPose
from lite.models.sapiens import TrunkSizes as SapiensSizes
from lite.models.vitpose import TrunkSizes, ViTPose

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this torch has no oneDNN linear layers"
)


def sapiens() -> SapiensPose:
    sizes = SapiensSizes(width=32, depth=2, num_heads=4, hidden=64, grid_hw=(4, 3))
    return SapiensPose(sizes, 5, (24, 16), (16,))


def vitpose() -> ViTPose:
    return ViTPose(TrunkSizes(width=32, depth=2, num_heads=4, hidden=64, grid_hw=(4, 3)), 5, (16, 16))


def ready(network: nn.Module) -> nn.Module:
    """Weights large enough that every part of the network shows in its output."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


@pytest.fixture
def here(monkeypatch):
    """As on a processor with bfloat16 hardware; in float32 the rewritten form runs anywhere."""
    monkeypatch.setattr(cpu_bfloat16, "available", lambda: True)


@pytest.mark.parametrize("build", [sapiens, vitpose])
@pytest.mark.usefixtures("here")
def test_modules_and_programs_give_the_same_numbers(build) -> None:
    network = ready(build())
    x = torch.rand(3, 3, 64, 48, generator=torch.Generator().manual_seed(1))
    expected = network(x)["heatmaps"]
    assert expected.std() > 0.01
    batch = torch.export.Dim("batch", min=1, max=8)
    program = torch.export.export(network, (x,), dynamic_shapes={"x": {0: batch}}).module()
    assert quicken_program(program) == quicken(network) == 8
    for rewritten in (network, program):
        with torch.inference_mode():
            found = rewritten(x)["heatmaps"]
            alone = rewritten(x[:1])["heatmaps"]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(alone, expected[:1], atol=1e-4, rtol=1e-4)
    kinds = {type(module) for module in network.modules()}
    assert not kinds & {nn.Linear, nn.GELU, nn.InstanceNorm2d, nn.ConvTranspose2d}
    targets = {str(node.target) for node in program.graph.nodes}
    assert not targets & {f"aten.{name}.default" for name in ("linear", "gelu", "instance_norm", "silu")}
    assert "aten.conv_transpose2d.input" not in targets
    layers = [node for node in program.graph.nodes if str(node.target).startswith("linear_")]
    assert [len(node.args) for node in layers] == 2 * [1, 2, 1, 2]  # qkv, proj to the stream, hidden, out to the stream


@pytest.mark.usefixtures("here")
def test_golden_heatmaps(golden: Path) -> None:
    """The network of the original implementation, rewritten."""
    import numpy as np

    arrays = np.load(golden / "sapiens/networks/pose_tiny.npz")
    network = load_network(golden / "sapiens/networks/pose_tiny.pth").requires_grad_(False)
    assert quicken(network) > 0
    with torch.inference_mode():
        found = network(torch.from_numpy(arrays["input_a"]))["heatmaps"]
    np.testing.assert_allclose(found, arrays["heatmap_a"], atol=2e-4)


@pytest.mark.skipif(not cpu_bfloat16.available(), reason="a processor with bfloat16 hardware")
@pytest.mark.parametrize("build", [sapiens, vitpose])
def test_bfloat16_is_as_near_as_before(build) -> None:
    network = ready(build())
    x = torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(1))
    exact = network(x)["heatmaps"]
    network.to(torch.bfloat16)
    plain = network(x.bfloat16())["heatmaps"].float()
    assert quicken(network) == 8
    with torch.inference_mode():
        found = network(x.bfloat16())["heatmaps"].float()
    spread = exact.std()
    assert (found - exact).pow(2).mean().sqrt() < max(1.2 * (plain - exact).pow(2).mean().sqrt(), 0.01 * spread)


def test_activation_and_missing_bias() -> None:
    layer = nn.Linear(6, 10).requires_grad_(False)
    x = torch.randn(2, 5, 6)
    close = {"atol": 1e-5, "rtol": 1e-5}
    with torch.inference_mode():
        torch.testing.assert_close(PackedLinear(layer.weight, layer.bias)(x), layer(x), **close)
        torch.testing.assert_close(PackedLinear(layer.weight, None)(x), layer(x) - layer.bias, **close)
        fused: Tensor = PackedLinear(layer.weight, layer.bias, "gelu")(x)
        torch.testing.assert_close(fused, nn.functional.gelu(layer(x)), **close)


@pytest.mark.usefixtures("here")
def test_batch_norm_and_relu_go_into_the_deconvolutions() -> None:
    """As `open` prepares them: norms folded first."""
    network = ready(vitpose())
    x = torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(1))
    expected = network(x)["heatmaps"]
    fold_batch_norm(network)
    quicken(network.to(memory_format=torch.channels_last))
    left = [type(module) for module in network.keypoint_head.deconv_layers]
    assert left == 2 * [PackedDeconvolution, nn.Identity, nn.Identity]
    with torch.inference_mode():
        torch.testing.assert_close(network(x)["heatmaps"], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("here")
def test_sums_that_are_no_residual_stay() -> None:
    """A sum with another shape, and with something computed afterwards."""

    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(8))

        def forward(self, x: Tensor) -> Tensor:
            first, second = self.layers[0](x), self.layers[1](x)
            x = first + second.sin() + self.layers[2](x[:, :1])
            for layer in self.layers[3:]:
                x = layer(x) + layer(x)
            return x

    network = Sums().eval().requires_grad_(False)
    x = torch.randn(2, 5, 4)
    program = torch.export.export(network, (x,)).module()
    assert quicken_program(program) > 8
    with torch.inference_mode():
        torch.testing.assert_close(program(x), network(x), atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("here")
def test_what_it_does_not_know_stays() -> None:
    tanh = nn.Sequential(*(part for _ in range(8) for part in (nn.Linear(4, 4), nn.GELU(approximate="tanh"))))
    norms = nn.Sequential(nn.InstanceNorm2d(4, affine=True), nn.InstanceNorm2d(4, track_running_stats=True))
    network = nn.ModuleList([tanh, norms]).eval()
    assert quicken(network) == 8
    assert sum(type(module) is nn.GELU for module in tanh) == 8
    assert all(type(module) is nn.InstanceNorm2d for module in norms)
    few = nn.Sequential(nn.Linear(4, 4), nn.Conv2d(3, 3, 1))
    before = deepcopy(few)
    assert quicken(few) == 0
    assert [type(module) for module in few] == [type(module) for module in before]


def test_memory_is_kept_where_it_can_be() -> None:
    assert keep_memory() in (True, False)
    assert bool(torch.ones(10**7).sum() == 10**7)  # large blocks come and go as before
