"""`hpe-lite split`: a network for several data sets into one file for each.

The original's script leaves the experts in every file, and the other heads in the first; these files hold the plain
network alone. Source: ViTPose tools/model_split.py.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lite.errors import CheckpointError, ConfigError, ModelError, first_line
from lite.models.find import find_zoo_weights, resolve_model
from lite.models.rows import ZooRow

if TYPE_CHECKING:
    from torch import nn

    from lite.models.split_config import SplitConfig


def split_command(config: "SplitConfig") -> int:
    """`hpe-lite split CHECKPOINT`: write the files and name them."""
    for path in split(config.checkpoint, config.output, config.wanted, config.format, config.trust):
        print(path)
    return 0


def split(
    path: str | Path,
    output: str | Path,
    datasets: Sequence[str] | None = None,
    format: Literal["safetensors", "pth"] = "safetensors",
    trust: bool = False,
) -> list[Path]:
    """Write the plain network of each data set that a file holds together; each gives what the joint one gives.

    Args:
        path: checkpoint, folder as transformers writes it, or zoo name.
        output: folder, made if it is not there; files are named `<file>-<data set>.<format>`.
        datasets: names of those wanted ("mpii16"); all when None.
        format: "safetensors" with the spec inside, or "pth" as the original reads it. Both have the original's names.
        trust: as for `load_network`.

    Returns:
        The files, in the order of the experts.

    Raises:
        CheckpointError: not a network for several data sets, or without one that is wanted.
        ConfigError: the folder cannot be written.
    """
    from safetensors import SafetensorError

    from lite.checkpoints import load_network, read_state_dict, save_network
    from lite.models.vitpose import match_vitpose
    from lite.models.vitpose_datasets import data_sets_in
    from lite.models.vitpose_names import to_original_names

    kind, found = resolve_model(path)
    if kind == "artifact":
        raise ModelError(
            f"{path}: expected a checkpoint, found an exported file, which holds one network; name another"
        )
    path = find_zoo_weights(found) if isinstance(found, ZooRow) else found
    state = to_original_names(read_state_dict(path, trust)[0])[0]
    held = data_sets_in(state) if match_vitpose(state) else ()
    heads = {name.split(".")[1] for name in state if name.startswith("associate_keypoint_heads.")}
    if not held or len(held) != 1 + len(heads):
        raise CheckpointError(
            f"{path}: expected a network with a head for each of several data sets, found {1 + len(heads)} of "
            f"{max(1, len(held))}; it needs no splitting"
        )
    missing = sorted(set(datasets or ()) - set(held))
    if missing:
        raise CheckpointError(f"{path}: expected {', '.join(missing)} in it, found {', '.join(held)}; choose of these")
    written = []
    for name in (name for name in held if datasets is None or name in datasets):
        network = load_network(path, trust=trust, dataset=name)
        if network.spec.model == "vitpose-custom":
            network.spec = replace(network.spec, model=f"vitpose-custom-{name}")
        target = Path(output) / f"{path.stem}-{name}.{format}"
        try:
            written.append(save_network(network, target) if format == "safetensors" else _save_pth(network, target))
        except (OSError, SafetensorError, RuntimeError) as problem:  # what each writer makes of a full disk
            raise ConfigError(f"output: {target} cannot be written ({first_line(problem)}); name another") from None
    return written


def _save_pth(network: "nn.Module", path: Path) -> Path:
    """A file the original's `load_checkpoint` takes, complete or not at all."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    state = {name: tensor.detach().contiguous().clone() for name, tensor in network.state_dict().items()}
    try:
        torch.save({"meta": {"model": network.spec.model}, "state_dict": state}, partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path
