"""What the wheel holds and what the README says of the tree, against the tree itself."""

import re
import tomllib
from pathlib import Path

TOP_LEVEL = {"pyproject.toml", "lite", "export", "scripts", "checkpoints", "tests", "README.md"}
BESIDE = {"LICENSE", "NOTICE", "constraints.txt", "docs"}


def project(root: Path) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_package_is_in_the_wheel(root: Path) -> None:
    listed = set(project(root)["tool"]["setuptools"]["packages"])
    folders = {
        ".".join(path.parent.relative_to(root).parts)
        for top in ("lite", "export")
        for path in (root / top).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert listed == folders | {"lite.default_weights"}


def test_every_requirement_has_a_tested_version(root: Path) -> None:
    pinned = {
        _name(line) for line in (root / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")
    }
    facts = project(root)["project"]
    wanted = {_name(r) for r in [*facts["dependencies"], *facts["optional-dependencies"]["test"]]}
    assert wanted <= pinned


def _name(requirement: str) -> str:
    return re.split(r"[<>=\[;~! ]", requirement)[0].lower().replace("_", "-")


def test_nothing_else_lies_at_the_top(root: Path) -> None:
    tracked = root / ".git"
    if not tracked.exists():
        return
    import subprocess

    names = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout.split("\n")
    tops = {name.split("/")[0] for name in names if name}
    assert {top for top in tops if not top.startswith(".")} <= TOP_LEVEL | BESIDE


def test_the_readme_names_every_module(root: Path) -> None:
    readme = (root / "README.md").read_text(encoding="utf-8")
    modules = [p for top in ("lite", "export") for p in (root / top).rglob("*.py") if p.name != "__init__.py"]
    missing = sorted(str(p.relative_to(root)) for p in modules if p.name not in readme)
    assert not missing, f"not in the README's tree: {missing}"


def test_embedded_weights_have_cards_and_stay_small(root: Path) -> None:
    weights = sorted((root / "checkpoints").glob("*.safetensors"))
    assert [w.stem for w in weights] == ["person-nano", "pose17-small"]
    for weight in weights:
        assert weight.stat().st_size < 10_000_000
        card = weight.with_suffix(".md").read_text(encoding="utf-8")
        for word in ("Apache-2.0", "hpe-lite eval", "AP"):
            assert word in card, f"{weight.stem}.md does not say {word}"
