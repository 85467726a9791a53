"""`ZooRow`: one line of the zoo. Families import it from here and list their rows; `lite.models.zoo` joins the lists.

Nothing here imports torch, so that `hpe-lite models` answers at once; `build` does when it is called.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from lite.models.places import Place

if TYPE_CHECKING:
    from torch import nn

Task = Literal["detect", "pose", "pose-bottom-up", "segment", "classify", "features"]


@dataclass(frozen=True, kw_only=True)
class ZooRow:
    """A model that can be asked for by name.

    Attributes:
        name: `<family>-<size>-<skeleton>`, or the name of an embedded default.
        task: what it does.
        family: which network family it belongs to (`sapiens`, `vitpose`, `rtmdet`, ...).
        size: as its authors call it (`0.3b`, `b`, `nano`).
        licence: of the weights, as an SPDX name where there is one.
        weights: file name looked for in the checkpoint folders; None when the user brings the file under any name.
        source: where the weights come from.
        accuracy: published numbers, metric -> value.
        default: whether the weights come with this package.
        place: where the weights can be downloaded; None when they cannot. Set by `lite.models.zoo`.
        build: gives a network of this row with random weights and its `.spec`.
    """

    name: str
    task: Task
    family: str
    size: str
    licence: str
    source: str
    build: Callable[[], nn.Module]
    weights: str | None = None
    accuracy: dict[str, float] = field(default_factory=dict)
    default: bool = False
    place: Place | None = None


def lazily(dotted: str, *args: object, **kwargs: object) -> Callable[[], nn.Module]:
    """A builder that imports its module only when called: `lazily("lite.models.sapiens:sapiens", "0.3b", "coco17")`."""
    module_name, function_name = dotted.split(":")

    def build() -> nn.Module:
        return getattr(importlib.import_module(module_name), function_name)(*args, **kwargs)

    return build
