"""What the pages under docs/ say in commands and names is so: every model, flag and link is there."""

import dataclasses
import itertools
import re
from pathlib import Path

import pytest

from lite.cli import COMMANDS, _load
from lite.models.places import PLACES
from lite.models.zoo import ZOO

PAGES = ("differences.md", "mmdet.md", "models.md", "results.md")


def expanded(text: str) -> list[str]:
    """`a-{b,c}` -> a-b, a-c."""
    parts = [part.split(",") for part in re.split(r"[{}]", text)]
    return ["".join(one) for one in itertools.product(*parts)]


def test_every_model_is_on_the_page_and_every_name_there_is_a_model(root: Path) -> None:
    text = (root / "docs/models.md").read_text(encoding="utf-8")
    quoted = [name for code in re.findall(r"^\| (.+?) \|", text, re.M) for name in re.findall(r"`(.+?)`", code)]
    names = {name for code in quoted if not code.startswith("-") for name in expanded(code)}
    names |= {f"sapiens-{size}-cihp20" for size in ("0.3b", "0.6b", "1b", "2b")}  # written as an ending
    names |= {"person-nano", "pose17-small"}  # in the text above the tables
    assert names - set(ZOO) == set()
    beside = {name for name in ZOO if re.match(r"vitpose-[blh]-multi4-(mpii16|aic14)", name)}
    assert set(ZOO) - names - beside == set()


def test_every_download_is_on_the_page(root: Path) -> None:
    rows = [line for line in (root / "docs/models.md").read_text(encoding="utf-8").splitlines() if line[:3] == "| `"]
    for line in rows:
        names = [name for code in re.findall(r"`(.+?)`", line.split("|")[1]) for name in expanded(code)]
        somewhere = any(name in PLACES for name in names)
        assert somewhere == (line.split("|")[-2].strip() != "-"), line


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_links(root: Path, page: str) -> None:
    text = (root / "docs" / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (root / "docs" / link).is_file(), link
    for line in re.findall(r"^    hpe-lite (.+)$", text, re.M):
        words = line.split("#")[0].split()
        name = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
        keys = {field.name for field in dataclasses.fields(_load(COMMANDS[name].config))}
        flags = [word.lstrip("-").replace("-", "_") for word in words if word.startswith("--")]
        assert set(flags) <= keys, line
        for flag, value in itertools.pairwise(words):
            if flag in ("--model", "--detector", "download", "verify"):
                assert value in ZOO, line


@pytest.mark.parametrize("page", PAGES)
def test_flags_in_the_text_are_flags_of_some_command(root: Path, page: str) -> None:
    known = {f.name for command in COMMANDS.values() for f in dataclasses.fields(_load(command.config))}
    text = re.sub(r"^    .*$", "", (root / "docs" / page).read_text(encoding="utf-8"), flags=re.M)
    flags = {word for code in re.findall(r"`([^`]+)`", text) for word in re.findall(r"--([a-z][a-z-]+)", code)}
    flags -= {"no-build-isolation", "flip"}  # pip's; the original's
    assert flags
    assert {flag.replace("-", "_") for flag in flags} <= known | {"help", "config"}
