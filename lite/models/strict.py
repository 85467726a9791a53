"""Strict loading: every tensor of the network comes from the file, and every tensor of the file has a place."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from lite.errors import CheckpointError

SHOWN = 12


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], expected: str) -> nn.Module:
    """Put the tensors into the network without copying, converted to the network's dtypes, and switch to eval mode.

    Args:
        network: may be on the meta device; it takes over the given tensors.
        state: tensors under the network's own names.
        expected: what the network is, for the message ("sapiens trunk of width 1024 with a heatmap head").

    Raises:
        CheckpointError: keys missing, left over, or of another shape; the first dozen of each are listed.
    """
    own = network.state_dict()
    lines = [
        *_listed("missing", (name for name in own if name not in state)),
        *_listed("left over", (name for name in state if name not in own)),
        *_listed(
            "of another shape",
            (
                f"{name} (expected {tuple(own[name].shape)}, found {tuple(state[name].shape)})"
                for name in own
                if name in state and own[name].shape != state[name].shape
            ),
        ),
    ]
    if lines:
        raise CheckpointError(
            f"expected the {len(own)} tensors of a {expected}, found others; name the right model or file\n  "
            + "\n  ".join(lines)
        )
    converted = {name: state[name].to(own[name].dtype) for name in own}
    network.load_state_dict(converted, strict=True, assign=True)
    return network.eval()


def check_axes(state: Mapping[str, Tensor], axes: Mapping[str, int]) -> None:
    """Refuse tensors that sizes are read from and that have another number of axes; ones that are not there pass.

    Args:
        state: tensors of a file. axes: name -> number of axes.

    Raises:
        CheckpointError: one of them has more or fewer, or nothing in it.
    """
    for name, count in axes.items():
        if name in state and (state[name].ndim != count or not state[name].numel()):
            raise CheckpointError(
                f"expected {count} axes of {name}, found the shape {tuple(state[name].shape)}; the file is damaged"
            )


def joined(parts: Sequence[Tensor], name: str) -> Tensor:
    """Tensors of a file one after the other along the first axis, for the tensor `name` of a network.

    Raises:
        CheckpointError: their other axes differ.
    """
    if len({part.shape[1:] for part in parts}) > 1 or any(part.ndim == 0 for part in parts):
        found = " and ".join(str(tuple(part.shape)) for part in parts)
        raise CheckpointError(f"expected parts of {name} that fit together, found {found}; the file is damaged")
    return torch.cat(list(parts))


def shape_differences(network: nn.Module, other: nn.Module, ignore: Iterable[str] = ()) -> list[str]:
    """How the tensors of two networks differ in name or shape, as lines for a message; empty when they agree."""
    skipped = set(ignore)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items() if name not in skipped}
    wanted = {name: tuple(tensor.shape) for name, tensor in other.state_dict().items() if name not in skipped}
    differing = (
        f"{name} (expected {wanted[name]}, found {shapes[name]})"
        for name in wanted
        if name in shapes and shapes[name] != wanted[name]
    )
    return [
        *_listed("missing", (name for name in wanted if name not in shapes)),
        *_listed("left over", (name for name in shapes if name not in wanted)),
        *_listed("of another shape", differing),
    ]


def _listed(title: str, names: Iterable[str]) -> list[str]:
    names = list(names)
    if not names:
        return []
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [f"{len(names)} {title}: {', '.join(names[:SHOWN])}{rest}"]
