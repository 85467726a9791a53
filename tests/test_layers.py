"""Who may import whom: the table of the layers, checked against every import statement."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

# Module prefix -> (layer, part). The longest prefix that fits counts.
PLACES = {
    "lite": ("words", "words"),
    "lite.errors": ("words", "words"),
    "lite.structures": ("words", "words"),
    "lite.geometry": ("words", "words"),
    "lite.skeletons": ("words", "words"),
    "lite.label_sets": ("words", "words"),
    "lite.label_png": ("words", "words"),
    "lite.segment": ("stages", "stages"),
    "lite.draw_labels": ("parts", "writers"),
    "lite.artifact": ("facts", "facts"),
    "lite.config": ("facts", "facts"),
    "lite.trust": ("facts", "facts"),
    "lite.check_report": ("facts", "facts"),
    "lite.network": ("facts", "facts"),
    "lite.models": ("parts", "models"),
    "lite.checkpoints": ("parts", "models"),
    "lite.safe_pickle": ("parts", "models"),
    "lite.codecs": ("parts", "codecs"),
    "lite.backends": ("parts", "backends"),
    "lite.readers": ("parts", "readers"),
    "lite.datasets": ("parts", "datasets"),
    "lite.draw": ("parts", "writers"),
    "lite.draw_bottom_up": ("parts", "writers"),
    "lite.writers": ("parts", "writers"),
    "lite.evaluate": ("parts", "evaluate"),
    "lite.detect": ("stages", "stages"),
    "lite.crop": ("stages", "stages"),
    "lite.classify": ("stages", "stages"),
    "lite.graph": ("stages", "stages"),
    "lite.cost": ("stages", "stages"),
    "lite.forward": ("stages", "stages"),
    "lite.assemble": ("stages", "stages"),
    "lite.bottom_up": ("stages", "stages"),
    "lite.group": ("stages", "stages"),
    "lite.refine": ("stages", "stages"),
    "lite.assignment": ("stages", "stages"),
    "lite.engine": ("runs", "engine"),
    "lite.train": ("runs", "train"),
    "lite.cli": ("doors", "cli"),
    "export": ("doors", "export"),
}
MAY_IMPORT = {
    "words": {"words"},
    "facts": {"words", "facts"},
    "parts": {"words", "facts"},
    "stages": {"words", "facts"},
    "runs": {"words", "facts", "parts", "stages"},
    "doors": {"words", "facts", "parts", "stages", "runs", "doors"},
}


def place(module: str) -> tuple[str, str]:
    """Layer and part of a dotted module name."""
    words = module.split(".")
    for length in range(len(words), 0, -1):
        if (found := PLACES.get(".".join(words[:length]))) and (length > 1 or len(words) == 1 or words[0] == "export"):
            return found
    raise AssertionError(f"{module} has no place in the layer table: add it to PLACES")


def imports(path: Path) -> set[str]:
    """Every module of ours that a file names in an import statement, in functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import; write it in full"
            found |= {node.module} if node.module != "lite" else {f"lite.{a.name}" for a in node.names} | {"lite"}
    return {name for name in found if name.split(".")[0] in ("lite", "export")}


def allowed(importer: str, imported: str) -> bool:
    """Whether the table lets `importer` import `imported`."""
    if imported == "lite" or imported.startswith("lite.__"):
        return True
    if importer == "lite.backends.eager_backend":  # the one exception: it builds a network and its graph
        return place(imported)[0] in ("words", "facts", "parts", "stages")
    (layer, part), (other_layer, other_part) = place(importer), place(imported)
    if part == other_part:
        return True
    if importer.startswith("lite.engine") and other_part == "models":
        return False
    if other_part == "export":
        return False
    if layer in ("facts", "doors"):
        return other_layer in MAY_IMPORT[layer]
    return other_layer != layer and other_layer in MAY_IMPORT[layer]


def modules(root: Path) -> list[tuple[str, Path]]:
    files = sorted([*root.glob("lite/**/*.py"), *root.glob("export/**/*.py")])
    return [(".".join(f.relative_to(root).with_suffix("").parts).removesuffix(".__init__"), f) for f in files]


def test_every_import_is_allowed(root: Path) -> None:
    found = modules(root)
    assert len(found) > 20
    wrong = [
        f"{name} imports {other}"
        for name, path in found
        for other in sorted(imports(path))
        if place(name) and not allowed(name, _as_public(other))
    ]
    assert not wrong, "\n".join(wrong)


def _as_public(name: str) -> str:
    """`from lite import load_network` is the public surface, not a module."""
    words = name.split(".")
    return name if len(words) < 2 or ".".join(words[:2]) in PLACES else "lite"


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("lite.codecs.udp_heatmap", "lite.models.vit"),
        ("lite.models.zoo", "lite.codecs"),
        ("lite.geometry", "lite.artifact"),
        ("lite.crop", "lite.codecs"),
        ("lite.engine.pipeline", "lite.models.zoo"),
        ("lite.engine.run", "lite.train.fit"),
        ("lite.engine.run", "export.pipeline"),
        ("lite.backends.pt2_backend", "lite.checkpoints"),
    ],
)
def test_the_table_forbids(importer: str, imported: str) -> None:
    assert not allowed(importer, imported)


def loaded_after(statement: str) -> set[str]:
    """Modules in memory after a statement, in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_importing_lite_is_light() -> None:
    assert not loaded_after("import lite") & {"torch", "cv2", "numpy", "jsonargparse"}


@pytest.mark.parametrize(
    "command", ["infer", "export", "eval", "train", "bench", "bench model", "models", "models download", "inspect"]
)
def test_help_loads_nothing_heavy(command: str) -> None:
    code = f"from lite.cli import main\ntry:\n    main([*'{command}'.split(), '--help'])\nexcept SystemExit:\n    pass"
    assert not loaded_after(code) & {"torch", "cv2", "lightning", "pycocotools", "onnx"}


def test_an_exported_file_runs_without_network_code() -> None:
    loaded = loaded_after("import lite.engine.pipeline, lite.backends.pt2_backend")
    assert not {name for name in loaded if name.startswith("lite.models")}
