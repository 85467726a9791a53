"""What tracing is told: which sides vary, in which steps, and that no two of them look alike."""

from dataclasses import replace

import pytest
import torch

from export.shapes import dynamic_shapes, example
from lite.artifact import ArtifactSpec, FrameRule
from lite.errors import ModelError
from lite.network import LARGEST_ASPECT

FIXED = ArtifactSpec(task="segment", model="x", input_hw=(64, 48), mean=(0.0,) * 3, std=(1.0,) * 3)
VARYING = replace(FIXED, input_hw=(128, 128), frame=FrameRule(kind="short-side", multiple=64))


def test_a_fixed_size_varies_in_its_batch_alone() -> None:
    assert example(FIXED, 3, torch.device("cpu")).shape == (3, 64, 48, 3)
    (sides,) = dynamic_shapes(FIXED, 8).values()
    assert list(sides) == [0] and (sides[0].min, sides[0].max) == (1, 8)


@pytest.mark.parametrize("kind", ["stretch", "center-crop"])
def test_other_frames_have_one_size(kind: str) -> None:
    spec = replace(FIXED, frame=FrameRule(kind=kind))
    assert list(dynamic_shapes(spec, 8)["pixels"]) == [0]


def test_any_size_is_traced_with_unequal_sides() -> None:
    pixels = example(VARYING, 2, torch.device("cpu"))
    assert pixels.dtype == torch.uint8 and len(set(pixels.shape)) == 4
    assert all(side % 64 == 0 for side in pixels.shape[1:3])


class Halves(torch.nn.Module):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(pixels.permute(0, 3, 1, 2).float(), 64)


def test_programs_take_whole_multiples_up_to_the_longest_frame() -> None:
    shapes, given = dynamic_shapes(VARYING, 4), example(VARYING, 2, torch.device("cpu"))
    program = torch.export.export(Halves(), (given,), dynamic_shapes=shapes).module()
    longest = 128 * LARGEST_ASPECT
    for height, width in ((128, 128), (128, longest), (longest, 192)):
        assert program(torch.zeros(3, height, width, 3, dtype=torch.uint8)).shape[2:] == (height // 64, width // 64)
    for height, width in ((64, 128), (128, longest + 64)):  # what is no multiple, backends refuse
        with pytest.raises((AssertionError, RuntimeError)):
            program(torch.zeros(1, height, width, 3, dtype=torch.uint8))


def test_an_input_too_small_to_vary_is_refused() -> None:
    with pytest.raises(ModelError, match="at least 128 px to export, found 64"):
        dynamic_shapes(replace(VARYING, input_hw=(64, 64)), 4)
