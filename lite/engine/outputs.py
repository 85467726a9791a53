"""Where each picture's results go: the same place below the output folder, no two in one file, never among sources."""

import os
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from lite.errors import ConfigError
from lite.readers import Item

RUN_FILE = "run.json"
RESULT_SUFFIXES = (".json", ".jpg", ".labels.png", ".heatmaps.png", ".tags.png")
# File systems take names of 255 bytes.
LONGEST_STEM_BYTES = 255 - max(map(len, RESULT_SUFFIXES))


def plan_outputs(items: Sequence[Item], output: Path, inputs: Iterable[str]) -> list[Path]:
    """Paths of the results without their ending, one an item.

    `photos/a/1.png` becomes `<output>/a/1`; where two would be one file (also on disks that do not tell capitals),
    the full name `1.png` is kept, and after that the name of the input folder goes in front.

    Raises:
        ConfigError: the output is an input folder or inside one, a result would land beside a source, or replace a file
            in a folder that no earlier run wrote.
    """
    _refuse_sources(output, inputs)
    stems = [output / stem for stem in _unique_stems(items)]
    source_folders = {os.path.realpath(item.path.parent) for item in items}
    for folder in {stem.parent for stem in stems}:
        if os.path.realpath(folder) in source_folders:
            raise ConfigError(
                f"output: results would be written into {folder}, where pictures are; choose another folder"
            )
    if output.exists() and not output.is_dir():
        raise ConfigError(f"output: expected a folder, found the file {output}")
    if not (output / RUN_FILE).exists():
        _refuse_strangers(stems)
    return stems


def _refuse_strangers(stems: Iterable[Path]) -> None:
    """A file that no earlier run wrote may be somebody's picture."""
    for stem in stems:
        for suffix in RESULT_SUFFIXES:
            if os.path.lexists(f"{stem}{suffix}"):
                raise ConfigError(
                    f"output: {stem}{suffix} is there already and not from an earlier run; choose another folder"
                )


def _refuse_sources(output: Path, inputs: Iterable[str]) -> None:
    place = Path(os.path.realpath(output))
    for given in inputs:
        if os.path.isdir(given) and place.is_relative_to(os.path.realpath(given)):
            raise ConfigError(f"output: {output} is the input folder or inside it; choose a folder elsewhere")


def _unique_stems(items: Sequence[Item]) -> list[str]:
    """A relative path for each item; of those that share one, the shortest forms get longer until nobody shares."""
    level = [0] * len(items)
    folders = {str(parent).casefold() for item in items for parent in PurePosixPath(_below(item)).parents}
    while True:
        stems = [_stem(item, n, level[n]) for n, item in enumerate(items)]
        groups = defaultdict(list)
        for n, stem in enumerate(stems):
            groups[stem.casefold()].append(n)
        shared = [group for group in groups.values() if len(group) > 1 or _taken(stems[group[0]], folders)]
        if not shared:
            return stems
        for group in shared:
            shortest = min(level[n] for n in group)
            for n in group:
                level[n] += level[n] == shortest


def _stem(item: Item, position: int, level: int) -> str:
    name = PurePosixPath(_below(item))
    folder = item.root.resolve().name or "root"
    stem = (name.with_suffix(""), name, f"{folder}/{name}", f"{folder}/{name}~{position + level - 2}")[min(level, 3)]
    return "/".join(_short(part) for part in PurePosixPath(stem).parts)


def _below(item: Item) -> str:
    """The item's name without steps upwards; a list may name a folder that has none."""
    return "/".join(part for part in PurePosixPath(item.name).parts if part not in ("..", "/")) or "unnamed"


def _short(part: str) -> str:
    """The part of a path, cut where no ending would fit behind it; a hash tells cut ones apart."""
    data = os.fsencode(part)
    if len(data) <= LONGEST_STEM_BYTES:
        return part
    mark = f"~{zlib.crc32(data):08x}"
    return data[: LONGEST_STEM_BYTES - len(mark)].decode(errors="ignore") + mark


def _taken(stem: str, folders: set[str]) -> bool:
    """Whether the files of this stem are the run's own or have the name of a folder that results need."""
    files = {f"{stem}{suffix}".casefold() for suffix in RESULT_SUFFIXES}
    return RUN_FILE in files or bool(files & folders)
