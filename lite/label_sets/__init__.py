"""Label sets: what the classes of a segmentation network are called, their colours, and which ones a mirror swaps.

Four come with the package, one TOML file each, found by name. A file of one's own (TOML or JSON) has the same keys:
`names` (class 0 is the background), and if wanted `palette` and `swaps`.
"""

import colorsys
import json
import re
import reprlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lite.errors import ConfigError

Color = tuple[int, int, int]
MOST_LABELS = 255  # a label is a byte, and 255 means "not judged" in label maps
LARGEST_FILE = 2**20  # bytes; ours have about a thousand
_KEYS = {"names", "palette", "swaps"}


@dataclass(frozen=True, kw_only=True)
class LabelSet:
    """The classes of a segmentation network; label n is position n.

    Attributes:
        name: file name without its ending, such as "goliath28".
        names: C class names, the background first.
        palette: RGB of each class, 0..255.
        swaps: pairs of labels that a mirrored picture swaps.
    """

    name: str
    names: tuple[str, ...]
    palette: tuple[Color, ...]
    swaps: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.names)


def list_label_sets() -> tuple[str, ...]:
    """Names that `load_label_set` knows, sorted."""
    return tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.toml")))


def load_label_set(name_or_path: str | Path) -> LabelSet:
    """Read a label set by the name of one of ours, or a file of one's own (.toml, .json).

    Without `palette` colours are made up; without `swaps` they follow from the names (see `mirrored_pairs`).

    Raises:
        ConfigError: no such set, or a file that is not one; the message names the key.
    """
    if str(name_or_path) in list_label_sets():
        return _ours(str(name_or_path))
    path = Path(name_or_path)
    if path.suffix.lower() not in (".toml", ".json"):
        known = ", ".join(list_label_sets())
        raise ConfigError(f"labels: expected one of {known} or a .toml or .json file, found {str(name_or_path)!r}")
    return _read(path)


@cache
def _ours(name: str) -> LabelSet:
    return _read(Path(__file__).parent / f"{name}.toml")


def _read(path: Path) -> LabelSet:
    try:
        if not path.is_file() or path.stat().st_size > LARGEST_FILE:
            raise ConfigError(f"labels: expected a file of class names, found none of a fitting size at {path}")
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as problem:
        raise ConfigError(f"labels: {path} cannot be read as {path.suffix[1:].upper()} ({problem})") from None
    try:
        return label_set_from(path.stem, values)
    except ConfigError as problem:
        raise ConfigError(f"labels: {path}: {problem}") from None


def label_set_from(name: str, values: Any) -> LabelSet:
    """A label set from plain values: `names`, and if wanted `palette` (`#rrggbb` or [r, g, b]) and `swaps`.

    Raises:
        ConfigError: a value breaks the format.
    """
    if not isinstance(values, dict) or "names" not in values or set(values) - _KEYS:
        found = ", ".join(map(str, values))[:80] if isinstance(values, dict) else type(values).__name__
        raise ConfigError(f"expected the keys names and, if wanted, palette and swaps, found {found or 'none'}")
    names = values["names"]
    if not isinstance(names, list | tuple) or not 2 <= len(names) <= MOST_LABELS:
        found = len(names) if isinstance(names, list | tuple) else type(names).__name__
        raise ConfigError(f"names: expected a list of 2 to {MOST_LABELS} class names, found {found}")
    wrong = [n for n in names if not (isinstance(n, str) and n.strip() and n.isprintable() and len(n) <= 100)]
    if wrong or len(set(names)) != len(names):
        said = _short(wrong[0]) if wrong else "a name twice"
        raise ConfigError(f"names: expected different names of up to 100 printable characters, found {said}")
    palette = values.get("palette")
    if palette is None:
        palette = generated_palette(len(names))
    elif not isinstance(palette, list | tuple) or len(palette) != len(names):
        found = len(palette) if isinstance(palette, list | tuple) else type(palette).__name__
        raise ConfigError(f"palette: expected {len(names)} colours, one for each class, found {found}")
    swaps = values.get("swaps")
    swaps = mirrored_pairs(names) if swaps is None else _pairs(swaps, len(names))
    return LabelSet(name=name, names=tuple(names), palette=tuple(_rgb(color) for color in palette), swaps=swaps)


def generic_label_set(count: int) -> LabelSet:
    """Classes nobody named: `background`, `class_1`, `class_2`, ..."""
    names = ["background", *(f"class_{label}" for label in range(1, max(count, 2)))]
    return label_set_from(f"generic{count}", {"names": names})


def generated_palette(count: int) -> tuple[Color, ...]:
    """Black for the background, then colours that differ from their neighbours, always the same ones."""
    colors = [(0, 0, 0)]
    for n in range(1, count):  # the golden ratio spreads hues evenly whatever their number
        red, green, blue = colorsys.hsv_to_rgb(n * 0.618034 % 1, (1.0, 0.55, 0.8)[n % 3], (1.0, 0.9, 0.65)[n // 3 % 3])
        colors.append((round(red * 255), round(green * 255), round(blue * 255)))
    return tuple(colors)


def mirrored_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Pairs of labels whose names differ in "left" and "right" alone, the lower label first."""
    place = {name.lower(): label for label, name in enumerate(names)}
    other = {"left": "right", "right": "left"}
    swapped = (place.get(re.sub("left|right", lambda word: other[word[0]], name)) for name in place)
    return tuple((label, there) for label, there in enumerate(swapped) if there is not None and label < there)


def swapped_order(count: int, swaps: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """`count` labels: label n of a mirrored picture is label `order[n]` of the picture, and channel n likewise."""
    order = list(range(count))
    for a, b in swaps:
        order[a], order[b] = b, a
    return tuple(order)


_LIMITS = reprlib.Repr()  # lists can hold one another without end
_LIMITS.maxlevel, _LIMITS.maxlist, _LIMITS.maxstring = 2, 4, 40


def _short(value: Any) -> str:
    return _LIMITS.repr(value)[:60]


def _pairs(swaps: Any, count: int) -> tuple[tuple[int, int], ...]:
    pairs = [tuple(p) if isinstance(p, list | tuple) else p for p in swaps] if isinstance(swaps, list | tuple) else None
    flat = [label for pair in pairs or () if isinstance(pair, tuple) and len(pair) == 2 for label in pair]
    fits = all(type(label) is int and 0 <= label < count for label in flat) and len(set(flat)) == len(flat)
    if pairs is None or len(flat) != 2 * len(pairs) or not fits:
        raise ConfigError(f"swaps: expected pairs of labels below {count}, each label once, found {_short(swaps)}")
    return tuple(pairs)


def _rgb(color: Any) -> Color:
    if isinstance(color, str) and re.fullmatch("#[0-9a-fA-F]{6}", color):
        return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
    if isinstance(color, list | tuple) and len(color) == 3 and all(type(c) is int and 0 <= c <= 255 for c in color):
        return tuple(color)
    raise ConfigError(f'palette: expected colours as "#rrggbb" or [r, g, b] of 0 to 255, found {_short(color)}')
