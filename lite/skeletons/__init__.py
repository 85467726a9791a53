"""Skeletons: keypoint names, mirror pairs, links, colours and OKS constants, one TOML file each, found by file name."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lite.errors import ConfigError

Color = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """A set of keypoints; every index below is a position in `keypoint_names`.

    Attributes:
        name: file name without its ending, such as "coco17".
        keypoint_names: K names.
        flip_indices: K indices: keypoint i of a mirrored person is keypoint `flip_indices[i]` of the person.
        links: pairs of keypoints that a drawing joins.
        link_colors: RGB of each link. keypoint_colors: RGB of each keypoint.
        oks_sigmas: K constants of the object keypoint similarity.
        upper_body, lower_body: keypoints of each half, for half-body crops in training; some may be in neither.
        parts: name -> (start, stop) of keypoints in a row.
    """

    name: str
    keypoint_names: tuple[str, ...]
    flip_indices: tuple[int, ...]
    links: tuple[tuple[int, int], ...]
    link_colors: tuple[Color, ...]
    keypoint_colors: tuple[Color, ...]
    oks_sigmas: tuple[float, ...]
    upper_body: tuple[int, ...]
    lower_body: tuple[int, ...]
    parts: dict[str, tuple[int, int]]

    @property
    def num_keypoints(self) -> int:
        return len(self.keypoint_names)

    def index(self, keypoint_name: str) -> int:
        """Position of a keypoint.

        Raises:
            ConfigError: the skeleton has no keypoint of that name.
        """
        try:
            return self.keypoint_names.index(keypoint_name)
        except ValueError:
            raise ConfigError(
                f"skeleton {self.name}: expected one of its {self.num_keypoints} keypoint names, "
                f"found {keypoint_name!r}; the file {self.name}.toml lists them"
            ) from None

    def part(self, part_name: str) -> slice:
        """The keypoints of one part.

        Raises:
            ConfigError: the skeleton has no part of that name.
        """
        if part_name not in self.parts:
            raise ConfigError(
                f"skeleton {self.name}: expected a part out of {', '.join(self.parts)}, found {part_name!r}"
            )
        return slice(*self.parts[part_name])


def list_skeletons() -> tuple[str, ...]:
    """Names that `load_skeleton` knows, sorted."""
    return tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.toml")))


@cache
def load_skeleton(name: str) -> Skeleton:
    """Read a skeleton by name.

    Raises:
        ConfigError: there is no such skeleton.
    """
    if name not in list_skeletons():
        raise ConfigError(f"skeleton: expected one of {', '.join(list_skeletons())}, found {name!r}")
    values = tomllib.loads((Path(__file__).parent / f"{name}.toml").read_text(encoding="utf-8"))
    return Skeleton(
        name=name,
        keypoint_names=tuple(values["keypoint_names"]),
        flip_indices=tuple(values["flip_indices"]),
        links=tuple((start, end) for start, end in values["links"]),
        link_colors=tuple(_rgb(color) for color in values["link_colors"]),
        keypoint_colors=tuple(_rgb(color) for color in values["keypoint_colors"]),
        oks_sigmas=tuple(values["oks_sigmas"]),
        upper_body=tuple(values["upper_body"]),
        lower_body=tuple(values["lower_body"]),
        parts={part: (start, stop) for part, (start, stop) in values["parts"].items()},
    )


def _rgb(color: str) -> Color:
    """`#rrggbb` -> (red, green, blue)."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
