"""From what a user names to a file or zoo row: nothing here opens a file or imports torch."""

import difflib
import os
from pathlib import Path
from typing import Literal

from lite.artifact import spec_path
from lite.errors import CheckpointError, ModelError
from lite.models.hugging_face import CONFIG, WEIGHTS, weights_in
from lite.models.rows import ZooRow
from lite.models.zoo import ZOO

ARTIFACT_SUFFIXES = (".onnx", ".xml", ".engine", ".plan")
WEIGHTS_SUFFIXES = (".pt2", ".pth", ".pt", ".ckpt", ".safetensors", ".bin")  # a .pt2 with our JSON is an artifact
_PACKAGE = Path(__file__).resolve().parents[1]


def search_folders(checkpoints: str | Path | None = None) -> list[Path]:
    """Where weights are looked for: the given folder, HPE_LITE_CHECKPOINTS, ./checkpoints, then the package's own."""
    named = [checkpoints, os.environ.get("HPE_LITE_CHECKPOINTS") or None, "checkpoints"]
    folders = [Path(folder) for folder in named if folder is not None]
    return [*folders, _PACKAGE / "default_weights", _PACKAGE.parent / "checkpoints"]


def look_for(file_name: str, checkpoints: str | Path | None = None) -> Path | None:
    """The first file of this name in the search folders, or None."""
    paths = (folder / file_name for folder in search_folders(checkpoints))
    return next((path for path in paths if path.is_file()), None)


def find_weights(file_name: str, checkpoints: str | Path | None = None) -> Path:
    """The first file of this name in the search folders.

    Raises:
        CheckpointError: there is none; the message lists the folders.
    """
    path = look_for(file_name, checkpoints)
    if path is None:
        folders = ", ".join(str(folder) for folder in search_folders(checkpoints))
        raise CheckpointError(
            f"expected the weights file {file_name} in one of {folders}, found none; put it there or pass --checkpoints"
        )
    return path


def find_zoo_weights(row: ZooRow, checkpoints: str | Path | None = None) -> Path:
    """The weights file of a zoo row: under the original's name, the one `models download` gives it, or the model's.

    Raises:
        CheckpointError: the row names no file, or it is not there; the message says where it can be had.
    """
    if (there := look_for_zoo_weights(row, checkpoints)) is not None:
        return there
    fetch = f", or run `hpe-lite models download {row.name}`" if row.place is not None else ""
    if row.weights is None:
        raise CheckpointError(
            f"{row.name}: expected its weights file, which has no fixed name; get it from {row.source} and pass its "
            f"path, or put it into ./checkpoints as {row.name}.pth{fetch}"
        )
    try:
        return find_weights(row.weights, checkpoints)
    except CheckpointError as problem:
        raise CheckpointError(f"{row.name}: {problem}{fetch} (source: {row.source}, licence {row.licence})") from None


def look_for_zoo_weights(row: ZooRow, checkpoints: str | Path | None = None) -> Path | None:
    """The weights file of a zoo row under one of the names it may have, the model's own among them; or None."""
    own = [f"{row.name}{suffix}" for suffix in (".safetensors", ".pth")]
    names = [row.weights, row.place.stored_name if row.place is not None else None, *own]
    return next((path for name in names if name and (path := look_for(name, checkpoints)) is not None), None)


def zoo_row(name: str) -> ZooRow:
    """The row of this name.

    Raises:
        ModelError: there is none; the message names the nearest.
    """
    if name in ZOO:
        return ZOO[name]
    near = difflib.get_close_matches(name, ZOO, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ModelError(f"unknown model {name!r}; {hint}run `hpe-lite models` for the list")


def resolve_model(
    model: str | Path, checkpoints: str | Path | None = None
) -> tuple[Literal["zoo"], ZooRow] | tuple[Literal["checkpoint", "artifact"], Path]:
    """What a user means by `--model`: a zoo name, a file, or a folder as Hugging Face's transformers writes it.

    A bare file name is also looked for in the search folders.

    Returns:
        ("zoo", row), ("artifact", path) for an exported file, or ("checkpoint", path) for any other, a `.pt2`
        without our JSON among them; for a folder, the path of the weights in it.

    Raises:
        ModelError: neither a known name, nor an existing file, nor a folder with weights and their config.json.
    """
    if str(model) in ZOO:
        return "zoo", ZOO[str(model)]
    path = Path(model)
    if not path.is_file() and path.name == str(model):
        path = look_for(path.name, checkpoints) or path
    if path.is_file():
        exported = path.suffix.lower() in ARTIFACT_SUFFIXES or spec_path(path).is_file()
        return ("artifact" if exported else "checkpoint"), path
    if path.is_dir():
        weights = weights_in(path)
        if weights is not None:
            return "checkpoint", weights
        raise ModelError(
            f"{path}: expected {CONFIG} and one of {', '.join(WEIGHTS)} in it, found a folder without; "
            "name a file in it"
        )
    if len(path.parts) > 1 or path.suffix in (*ARTIFACT_SUFFIXES, *WEIGHTS_SUFFIXES):
        raise ModelError(f"{path}: expected a checkpoint or exported file, found no such file; check the path")
    zoo_row(str(model))
    raise AssertionError("zoo_row gives a row or raises")
