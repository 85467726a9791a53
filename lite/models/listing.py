"""What `hpe-lite models` and `hpe-lite inspect` say: facts gathered by pure functions, then printed."""

import dataclasses
import json
import reprlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lite.artifact import ArtifactSpec, read_spec, sha256_of, spec_from_dict
from lite.check_report import report_lines
from lite.errors import HpeLiteError
from lite.models.find import find_zoo_weights, look_for_zoo_weights, resolve_model
from lite.models.rows import ZooRow
from lite.models.zoo import ZOO
from lite.skeletons import load_skeleton

if TYPE_CHECKING:
    from torch import nn

    from lite.config import InspectConfig, ModelsConfig

SHOWN_METRICS, SHOWN_LABELS = 2, 8  # --json has them all
SHOWN_TEXT = 200  # characters of one entry of a checkpoint's meta
_PLAIN = reprlib.Repr()  # with limits, because lists that hold each other twice double with every level
_PLAIN.maxlevel = 3
_PLAIN.maxdict = _PLAIN.maxlist = _PLAIN.maxtuple = _PLAIN.maxset = _PLAIN.maxstring = _PLAIN.maxother = SHOWN_TEXT


def list_models(config: "ModelsConfig") -> int:
    """`hpe-lite models`: print the zoo; `config.json` asks for JSON, `config.checkpoints` adds a search folder."""
    rows = zoo_facts(config.checkpoints)
    print(json.dumps(rows, indent=2) if config.json else _zoo_table(rows), end="\n" if config.json else "")
    return 0


def inspect(config: "InspectConfig") -> int:
    """`hpe-lite inspect FILE`: print what a checkpoint or artifact is.

    Returns:
        0, or 1 when the file is readable but has a problem (keys missing, hash changed, check failed).
    """
    facts = file_facts(config.file, config.trust)
    text = _artifact_text if facts["kind"] == "artifact" else _facts_text
    print(json.dumps(facts, indent=2) if config.json else text(facts))
    return 1 if facts["problems"] else 0


def zoo_facts(checkpoints: str | Path | None = None) -> list[dict[str, Any]]:
    """One dict a zoo row; `present` says whether its weights are in the search folders. Imports no torch."""
    return [
        {
            "name": row.name,
            "task": row.task,
            "family": row.family,
            "size": row.size,
            "licence": row.licence,
            "default": row.default,
            "present": look_for_zoo_weights(row, checkpoints) is not None,
            "weights": row.weights,
            "source": row.source,
            "place": _place(row),
            "accuracy": dict(row.accuracy),
        }
        for row in ZOO.values()
    ]


def _place(row: ZooRow) -> dict[str, Any] | None:
    """Where `models download` finds the weights; None where it cannot."""
    if row.place is None:
        return None
    facts = dataclasses.asdict(row.place) | {"stored_name": row.place.stored_name, "text": row.place.text}
    return {name: value for name, value in facts.items() if value not in (None, "", (), {})}


def file_facts(model: str | Path, trust: bool = False) -> dict[str, Any]:
    """What a checkpoint, artifact or zoo model is, as JSON-ready facts; `problems` lists what is wrong with it.

    Raises:
        ModelError: no such file, or one that cannot be read.
    """
    kind, found = resolve_model(model)
    path = find_zoo_weights(found) if isinstance(found, ZooRow) else found
    return artifact_facts(path) if kind == "artifact" else checkpoint_facts(path, trust)


def artifact_facts(path: Path) -> dict[str, Any]:
    """The JSON beside an exported file, and whether it and its further files are still those it describes."""
    spec = read_spec(path)
    sha256 = sha256_of(path)
    problems = []
    if spec.sha256 not in (None, sha256):
        problems.append(f"the file has changed since it was exported: expected SHA-256 {spec.sha256}, found {sha256}")
    for name, expected in spec.companions.items():
        companion = path.parent / Path(name).name
        if not companion.is_file():
            problems.append(f"its other file {name} is not beside it")
        elif sha256_of(companion) != expected:
            problems.append(f"its other file {name} has changed since it was exported")
    if spec.check is None:
        problems.append("the file was never compared with the eager network")
    elif spec.check.get("passed") is not True:
        problems.append("the file did not pass the comparison with the eager network")
    return {
        "kind": "artifact",
        "file": str(path),
        "bytes": path.stat().st_size,
        "sha256": sha256,
        "spec": spec.to_dict(),
        "problems": problems,
    }


def checkpoint_facts(path: Path, trust: bool = False) -> dict[str, Any]:
    """Tensors of a weights file and the network they make."""
    from lite.checkpoints import HINTS_KEY, SPEC_KEY, family_of, load_network, read_state_dict

    state, meta = read_state_dict(path, trust)
    facts: dict[str, Any] = {
        "kind": "checkpoint",
        "file": str(path),
        "bytes": path.stat().st_size,
        "sha256": sha256_of(path),
        "tensors": len(state),
        "dtypes": dict(Counter(str(tensor.dtype).removeprefix("torch.") for tensor in state.values())),
        "meta": {str(key): _short(value) for key, value in meta.items() if key not in (SPEC_KEY, HINTS_KEY)},
    }
    problems: list[str] = []
    try:
        facts["family"], _ = family_of(state, path)
        facts.update(network_facts(load_network(path, trust=trust)))
    except HpeLiteError as problem:
        problems = str(problem).splitlines()
    return {**facts, "problems": problems}


def network_facts(network: "nn.Module") -> dict[str, Any]:
    """Model, size, head, keypoints and parameters of a loaded network."""
    spec = network.spec
    named = len(load_skeleton(spec.skeleton).keypoint_names) if spec.skeleton else None
    facts: dict[str, Any] = {
        "model": spec.model,
        "task": spec.task,
        "size": ZOO[spec.model].size if spec.model in ZOO else _custom_size(network),
        "fits": fitting_rows(network),
        "head": _head(network),
        "input_hw": list(spec.input_hw),
        "skeleton": spec.skeleton,
        "keypoints": next((output.shape[1] for output in spec.outputs if output.name == "keypoints"), named),
        "labels": len(spec.labels) or None,
        "notes": list(getattr(network, "notes", ())) or None,  # what was decided without the file saying so
        "label_names": _some(spec.labels) or None,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "licence": spec.licence,
    }
    return {name: value for name, value in facts.items() if value is not None}


def fitting_rows(network: "nn.Module") -> list[str]:
    """Names of the zoo rows whose tensors are those of a network; nothing in the tensors tells several of them apart.

    Rows of the same input size count first; where there is none, the size of the position embeddings may differ.
    """
    import torch

    from lite.models.strict import shape_differences

    spec = network.spec
    if spec.model not in ZOO:  # its loader found no row that fits
        return []
    size = ZOO[spec.model].size.split("-")[0]
    alike = []
    for row in ZOO.values():
        if row.task != spec.task or row.size.split("-")[0] != size:
            continue
        with torch.device("meta"):
            wanted = row.build()
        if type(wanted) is type(network) and not shape_differences(network, wanted, ignore=("backbone.pos_embed",)):
            alike.append((row.name, wanted.spec.input_hw == spec.input_hw))
    return [name for name, same in alike if same] or [name for name, _ in alike]


def _head(network: "nn.Module") -> str:
    """What follows the trunk, by the kind of its module or by the name the original gives it."""
    for name, part in network.named_children():
        if name.endswith("head"):
            ours = type(part).__module__.startswith("lite.")
            return type(part).__name__ if ours else name
    return "none (features only)" if network.spec.task == "features" else "within the network"


def _custom_size(network: "nn.Module") -> str:
    """The sizes of a transformer trunk in words; other networks are just custom."""
    trunk = getattr(network, "backbone", None)
    blocks = getattr(trunk, "layers", getattr(trunk, "blocks", None))
    if blocks is None or not hasattr(trunk, "pos_embed"):
        return "custom"
    heads = blocks[0].attn.num_heads
    return f"custom (width {trunk.pos_embed.shape[2]}, depth {len(blocks)}, {heads} heads)"


def _short(value: Any) -> Any:
    """A value of a checkpoint's meta, plain and short enough to print."""
    if isinstance(value, bool | int | float) or value is None:
        return value
    text = " ".join((value if isinstance(value, str) else _PLAIN.repr(value)).split())
    return text if len(text) <= SHOWN_TEXT else f"{text[:SHOWN_TEXT]}... ({len(text)} characters)"


def _zoo_table(rows: list[dict[str, Any]]) -> str:
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "task", "size", "licence", "accuracy", "weights", "download", box=None, pad_edge=False)
    for row in rows:
        accuracy = ", ".join(f"{metric} {value}" for metric, value in list(row["accuracy"].items())[:SHOWN_METRICS])
        weights = {(True, True): "default", (True, False): "missing", (False, True): "present"}.get(
            (row["default"], row["present"]), "-"
        )
        where = row["place"]["text"] if row["place"] else "-"
        table.add_row(row["name"], row["task"], row["size"], row["licence"], accuracy, weights, where)
    console = Console(width=None if Console().is_terminal else 180)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def _artifact_text(facts: dict[str, Any]) -> str:
    """An artifact in a dozen lines and its check report."""
    spec = spec_from_dict(facts["spec"], facts["file"])
    height, width = spec.input_hw
    outputs = (f"{output.name} {_shape(output.shape)} {output.dtype} {output.unit}" for output in spec.outputs)
    rows = {
        "file": f"{facts['file']}, {facts['bytes'] / 1e6:.1f} MB",
        "further files": ", ".join(spec.companions),
        "model": f"{spec.model}, {spec.task}, licence {spec.licence or 'unknown'}",
        "format": f"{spec.format}, {spec.mode}, batches of {spec.batch_range[0]} to {spec.batch_range[1]}",
        "device": spec.device,
        "input": f"{height}x{width} px, {spec.input_dtype} RGB; the network sees {spec.color_order}",
        "frame": spec.frame and _frame(spec),
        "crop": spec.crop and f"{spec.crop.padding:g} times the box, {spec.crop.affine} affine",
        "letterbox": spec.letterbox and f"filled with {spec.letterbox.fill}",
        "outputs": "; ".join(outputs),
        "decode": f"{spec.codec.get('name')}{', flip test' if spec.flip_test else ''}",
        "skeleton": spec.skeleton,
        "labels": _some(spec.labels),
        "mirror": ", ".join(f"{spec.labels[a]}/{spec.labels[b]}" for a, b in spec.label_swaps),
        "made with": ", ".join(f"{name} {version}" for name, version in spec.versions.items()),
        "sha256": facts["sha256"],
        "weights sha256": spec.source_sha256,
    }
    lines = [f"{name + ':':<16}{value}" for name, value in rows.items() if value]
    lines += report_lines(spec.check) if spec.check else []
    return "\n".join([*lines, _facts_text({"problems": facts["problems"]})])


def _frame(spec: ArtifactSpec) -> str:
    """How a whole frame becomes the input, in words."""
    rule = spec.frame
    if rule.kind == "stretch":
        return "resized to the input, its aspect lost"
    if rule.kind == "center-crop":
        return f"short side to {rule.short_side} px, then the middle"
    return f"short side to {min(spec.input_hw)} px, the long side up to a multiple of {rule.multiple}"


def _some(labels: Sequence[str]) -> str:
    """The first few labels and how many more there are."""
    more = len(labels) - SHOWN_LABELS
    return ", ".join(labels[:SHOWN_LABELS]) + (f" and {more} more" if more > 0 else "")


def _shape(shape: tuple[int | str, ...]) -> str:
    return f"({', '.join(map(str, shape))})"


def _facts_text(facts: dict[str, Any], indent: str = "") -> str:
    lines = []
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            lines += [f"{indent}{name}:", _facts_text(value, indent + "  ")]
        elif name == "problems":
            lines += [
                f"{indent}problems: {'none' if not value else ''}".rstrip(),
                *(f"{indent}  {line}" for line in value),
            ]
        elif name == "fits":
            lines.append(f"{indent}fits: {', '.join(value) or 'no model of the zoo'}")
        else:
            lines.append(f"{indent}{name}: {value}")
    return "\n".join(lines)
