"""Folders as Hugging Face's transformers writes them: which file holds the weights, what config.json adds to them.

Tensors show all sizes but three: the number of attention heads, the epsilon of the norms and the token grid. Nothing
here imports torch.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lite.errors import CheckpointError

CONFIG = "config.json"
INDEX_SUFFIX = ".index.json"  # a large model is cut into several files, which this one lists
WEIGHTS = tuple(f"{name}{end}" for name in ("model.safetensors", "pytorch_model.bin") for end in ("", INDEX_SUFFIX))
LARGEST_JSON = 16 * 2**20  # bytes
# What our ViTPose is built for; transformers can say otherwise.
REQUIRED = {"patch_size": 16, "num_channels": 3, "hidden_act": "gelu"}
# Defaults of transformers, for entries its files may leave out.
NUM_HEADS, LAYER_NORM_EPS, IMAGE_HW, SCALE = 12, 1e-12, (256, 192), 4


def weights_in(folder: Path) -> Path | None:
    """The weights file of such a folder; None when it has no config.json or no weights."""
    if not (folder / CONFIG).is_file():
        return None
    return next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)


def shards(index: Path) -> list[Path]:
    """The files an index lists, beside it.

    Raises:
        CheckpointError: no such list, or a file of it is elsewhere or missing.
    """
    listed = _read_json(index).get("weight_map")
    names = sorted(set(listed.values())) if isinstance(listed, dict) and all(map(_is_text, listed.values())) else []
    if not names or any(Path(name).name != name or name.endswith(INDEX_SUFFIX) for name in names):
        raise CheckpointError(f"{index}: expected a list of weights files beside it, found none; fetch it again")
    for name in names:
        if not (index.parent / name).is_file():
            raise CheckpointError(f"{index}: expected its file {name} beside it, found none; fetch it too")
    return [index.parent / name for name in names]


def config_hints(path: Path) -> dict[str, Any]:
    """What the config.json beside a weights file of a ViTPose says that its tensors do not; {} without one.

    Returns:
        `num_heads`, `grid_hw` and `layer_norm_eps`.

    Raises:
        CheckpointError: unreadable, or a ViTPose of another build than ours.
    """
    config_path = path.parent / CONFIG
    if path.name not in WEIGHTS or not config_path.is_file():
        return {}
    config = _read_json(config_path)
    trunk = config.get("backbone_config")
    if config.get("model_type") != "vitpose" or not isinstance(trunk, dict):
        return {}
    said = {**trunk, "patch_size": _one_side(trunk.get("patch_size", REQUIRED["patch_size"]))}
    wrong = [f"{name} {said[name]!r}" for name, value in REQUIRED.items() if said.get(name, value) != value]
    scale = config.get("scale_factor", SCALE)
    if wrong or scale != SCALE:
        found = ", ".join(wrong or [f"scale_factor {scale!r}"])
        raise CheckpointError(
            f"{config_path}: expected patches of 16, 3 channels, gelu and maps of a quarter, found {found:.80}; "
            "this build of ViTPose is not supported"
        )
    return {
        "num_heads": trunk.get("num_attention_heads", NUM_HEADS),
        "grid_hw": _grid(trunk),
        "layer_norm_eps": trunk.get("layer_norm_eps", LAYER_NORM_EPS),
    }


def _grid(trunk: Mapping[str, Any]) -> list[Any]:
    sides = trunk.get("image_size", IMAGE_HW)
    sides = [sides, sides] if type(sides) is int else sides
    if not isinstance(sides, list | tuple) or len(sides) != 2 or not all(type(side) is int for side in sides):
        raise CheckpointError(f"expected image_size [height, width] in {CONFIG}, found {sides!r:.40}; mend it")
    return [side // REQUIRED["patch_size"] for side in sides]


def _one_side(size: Any) -> Any:
    return size[0] if isinstance(size, list) and size and size[0] == size[-1] else size


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise ValueError("too large")
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("no object")
    except (OSError, ValueError, RecursionError) as problem:
        raise CheckpointError(f"{path}: expected a JSON object, found none ({problem!s:.60}); fetch it again") from None
    return values
