"""From a weights file to a network: read without running code, recognise the family, load strictly; and write back.

`read_state_dict` gives tensors and what the file says about itself, `load_network` an eval-mode module with `.spec`.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lite.artifact import sha256_of, spec_from_dict
from lite.errors import CheckpointError
from lite.models.find import find_weights, find_zoo_weights, resolve_model, zoo_row
from lite.models.hugging_face import INDEX_SUFFIX, config_hints, shards
from lite.models.pickle_machine import Foreign, TensorRef
from lite.models.program_weights import program_kind, read_program
from lite.models.strict import shape_differences
from lite.safe_pickle import LazyFile, read_lazily

__all__ = [
    "FAMILIES", "find_weights", "find_zoo_weights", "load_network", "read_state_dict", "resolve_model", "save_network",
    "zoo_row",
]  # fmt: skip

# Family -> module, whether tensors are of this family, network from tensors. Imported when a file is opened.
FAMILIES: dict[str, tuple[str, str, str]] = {
    "hrnet": ("lite.models.hrnet_family", "match_hrnet", "hrnet_from_state_dict"),
    "lite-hrnet": ("lite.models.lite_hrnet", "match_lite_hrnet", "lite_hrnet_from_state_dict"),
    "rtmdet": ("lite.models.rtmdet", "match_rtmdet", "rtmdet_from_state_dict"),
    "sapiens": ("lite.models.sapiens", "match_sapiens", "sapiens_from_state_dict"),
    "vitpose": ("lite.models.vitpose", "match_vitpose", "vitpose_from_state_dict"),
}
TASKS = {"lite-hrnet": "pose", "rtmdet": "detect"}  # families that take their whole spec from the file
ALSO = {"vitpose": ("hap",)}  # zoo families whose networks are those of another family
JOINT = ("vitpose",)  # families with files for several data sets, of which one is chosen
# What `save_network` stores beside the tensors: the spec, and what the tensors do not show (number of heads).
SPEC_KEY = "hpe_lite_spec"
HINTS_KEY = "hpe_lite_hints"
WRAPPERS = ("state_dict", "model", "module")
# What trainers and compilers put before every name of a network.
PREFIXES = ("module.", "_orig_mod.", "net.")


def load_network(
    path: str | Path | None,
    model: str | None = None,
    trust: bool = False,
    input_hw: tuple[int, int] | None = None,
    dataset: str | int | None = None,
) -> nn.Module:
    """The network a weights file holds, built at the sizes its tensors show, strictly loaded, in eval mode.

    Args:
        path: checkpoint file, folder as transformers writes it, or a zoo name whose weights are in the search folders;
            None means `model`.
        model: zoo name the file is expected to be; decides what tensors cannot show.
        trust: read files that name unknown classes, and TorchScript archives. Even then nothing in them is imported,
            called or run.
        input_hw: (h, w) in px; position embeddings are resized to it. None: the size the file was trained at.
        dataset: which data set of a file for several: its name ("mpii16") or its position. None: the one the model's
            name ends in, else the first.

    Returns:
        Module with `forward(x (B, 3, h, w) normalised float32) -> dict` of raw outputs and `.spec: ArtifactSpec`.

    Raises:
        ModelError: unknown zoo name.
        CheckpointError: unreadable, of no known family, not the expected model, or keys missing or left over.
        UnsafeFileError: the file could run code.
    """
    expected = zoo_row(model) if model is not None else None
    if path is None:
        if expected is None:
            raise CheckpointError("expected a checkpoint or a model name, found neither; pass --model or --checkpoint")
        path = find_zoo_weights(expected)
    kind, found = resolve_model(path)
    if kind == "zoo":
        expected, path = expected or found, find_zoo_weights(found)
    else:
        path = found
    state, meta = read_state_dict(path, trust)
    stored = spec_from_dict(meta[SPEC_KEY], str(path)) if SPEC_KEY in meta else None
    if input_hw is None and stored is not None:
        input_hw = stored.input_hw
    _check_hints(meta.get(HINTS_KEY, {}), path)
    family, build = family_of(state, path)
    if expected is not None and expected.family not in (family, *ALSO.get(family, ())):
        raise CheckpointError(
            f"{path}: expected the weights of {expected.name}, found a {family} network; name the right model or file"
        )
    if dataset is not None and family not in JOINT:
        raise CheckpointError(
            f"{path}: expected a network of {', '.join(JOINT)} to choose data set {dataset!r} of, found {family}; "
            "leave the data set out"
        )
    try:
        choice = {} if dataset is None else {"dataset": dataset}
        network = build(state, meta, expected.name if expected else None, input_hw, **choice)
    except CheckpointError as problem:
        raise CheckpointError(f"{path}: {problem}") from problem
    if stored is not None and stored.task != TASKS.get(family, network.spec.task):
        raise CheckpointError(
            f"{path}: expected the spec of a {family} network in it, found one for task {stored.task}; save it again"
        )
    if stored is not None and network.spec.input_hw == stored.input_hw:
        network.spec = stored if expected is None else replace(stored, model=expected.name)
    if expected is not None:
        _check_is(network, expected.name, path)
    network.spec = replace(network.spec, source_sha256=weights_sha256(path))
    return network.eval()


def weights_sha256(path: str | Path) -> str:
    """Hex digest of a weights file; of a list of files, that of its own digest and theirs, one a line."""
    path = Path(path)
    if not path.name.endswith(INDEX_SUFFIX):
        return sha256_of(path)
    digests = "\n".join(sha256_of(part) for part in (path, *shards(path)))
    return hashlib.sha256(digests.encode()).hexdigest()


def family_of(state: Mapping[str, Tensor], path: str | Path) -> tuple[str, Callable[..., nn.Module]]:
    """Name of the family these tensors belong to, and the function that builds its network.

    Raises:
        CheckpointError: no family knows them.
    """
    for family, (module_name, match, build) in FAMILIES.items():
        module = import_module(module_name)
        if getattr(module, match)(state):
            return family, getattr(module, build)
    some = ", ".join(list(state)[:3])
    raise CheckpointError(
        f"{path}: expected the tensors of one of {', '.join(FAMILIES)}, found {len(state)} others ({some}, ...); "
        "give a checkpoint of one of these families"
    )


def _check_hints(hints: Any, path: Path) -> None:
    """What a file says its tensors do not show is a few counts, and the epsilon of the norms."""
    counts = [None]
    if isinstance(hints, dict):
        others = [value for name, value in hints.items() if name != "layer_norm_eps"]
        counts = [n for value in others for n in (value if isinstance(value, list) else [value])]
        eps = hints.get("layer_norm_eps", 1e-6)
        counts += [1 if type(eps) is float and 0 < eps < 1 else None]
    if not all(type(n) is int and 0 < n < 2**16 for n in counts):
        raise CheckpointError(f"{path}: expected counts in its {HINTS_KEY}, found something else; save it again")


def _check_is(network: nn.Module, name: str, path: Path) -> None:
    """The network has the tensors of the zoo row, position embeddings apart, whose size follows the input."""
    with torch.device("meta"):
        wanted = zoo_row(name).build()
    lines = shape_differences(network, wanted, ignore=("backbone.pos_embed",))
    if lines:
        listed = "\n  ".join(lines)
        raise CheckpointError(f"{path}: expected the tensors of {name}, found others; name the right model\n  {listed}")


def read_state_dict(path: str | Path, trust: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of a weights file, and what it says about itself. Runs no code, whatever the file holds.

    Tensors are mapped from the file, not copied. Names lose a leading `module.` of data-parallel training, and
    `PREFIXES` that every name begins with; averaged copies (`ema_`) are left behind, as the published practice is to
    swap them in before saving.

    Args:
        path: `.pth` (zip or legacy), `.safetensors`, the index of several (`.index.json`), or a `.pt2` of others
            (TorchScript or exported program, of which only the weights are read); recognised by content.
        trust: let names from unknown packages pass (as inert objects) instead of refusing the file; read TorchScript.

    Raises:
        CheckpointError: missing, damaged, of another format, or without tensors.
        UnsafeFileError: names something no checkpoint needs, or is TorchScript without `trust`.
        ArtifactError: exported by this project, and its JSON is missing.
    """
    path = Path(path)
    try:
        if path.name.endswith(INDEX_SUFFIX):
            state, meta = {}, {}
            for part in shards(path):
                state.update(read_state_dict(part, trust)[0])
        elif _is_safetensors(path):
            state, meta = _read_safetensors(path)
        else:
            kind = program_kind(path)
            state, meta = _from_pickle(read_program(path, kind, trust) if kind else read_lazily(path, trust))
    except OSError as problem:
        reason = "a folder" if path.is_dir() else "no such file" if not path.exists() else problem.strerror
        raise CheckpointError(f"{path}: expected a weights file, found {reason}; check the path") from None
    state = _unprefixed({name: tensor for name, tensor in state.items() if not name.startswith("ema_")})
    if not state:
        raise CheckpointError(f"{path}: expected tensors, found none; give a checkpoint with weights")
    beside = config_hints(path)
    return state, {HINTS_KEY: beside, **meta} if beside else meta


def _unprefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without `PREFIXES`, which may stand one after the other, in any order."""
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    while prefix := next((one for one in PREFIXES if state and all(name.startswith(one) for name in state)), None):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def save_network(network: nn.Module, path: str | Path) -> Path:
    """Write a network as safetensors with its spec inside, complete or not at all; `load_network` reads it back."""
    from safetensors.torch import save_file

    path = Path(path)
    # Cloned, because safetensors refuses tensors that share memory (the levels of RTMDet's head do).
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
    metadata = {
        "format": "pt",
        SPEC_KEY: json.dumps(network.spec.to_dict(), allow_nan=False),
        HINTS_KEY: json.dumps(getattr(network, "hints", {}), allow_nan=False),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.touch()
        mode = partial.stat().st_mode  # as the user's umask says; safetensors makes files only their owner can read
        save_file(state, partial, metadata)
        partial.chmod(mode)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            meta: dict[str, Any] = dict(file.metadata() or {})
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        for key in (SPEC_KEY, HINTS_KEY):
            if key in meta:
                meta[key] = json.loads(meta[key])
    except (SafetensorError, ValueError, RecursionError) as problem:
        raise CheckpointError(
            f"{path}: expected a safetensors file, found a damaged one ({problem}); fetch it again"
        ) from problem
    return state, meta


def _from_pickle(file: LazyFile) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state dict, wrapped or bare, and `meta` with the plain values beside it."""
    root = file.root
    if not isinstance(root, dict):
        found = root if isinstance(root, Foreign) else type(root).__name__
        raise CheckpointError(f"{file.path}: expected a state dict, found {found!s:.60}; save the weights alone")
    wrapper = next((name for name in WRAPPERS if isinstance(root.get(name), dict)), None)
    state = root if wrapper is None else root[wrapper]
    if wrapper == "module" and isinstance(state.get("model"), dict):  # a trainer's own state round the network's
        state = state["model"]
    wrong = [
        name if isinstance(name, str) else f"a key of type {type(name).__name__}"
        for name, value in state.items()
        if not isinstance(name, str) or not isinstance(value, TensorRef)
    ]
    if wrong:
        raise CheckpointError(
            f"{file.path}: expected tensors only, found {len(wrong)} other entries ({', '.join(wrong[:12])}); "
            "give a checkpoint with a state dict"
        )
    meta = dict(root["meta"]) if isinstance(root.get("meta"), dict) else {}
    if wrapper is not None:
        plain = {key: value for key, value in root.items() if isinstance(value, str | int | float)}
        meta = {**plain, **meta}
    return {name: file.tensor(reference) for name, reference in state.items()}, meta
