"""What a score is made of, whatever the task: numbers for JSON, tables for people, entries for a server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table for people.

    Attributes:
        columns: headings after the first column, which holds the rows' names.
        rows: name of the row -> one text a column.
        above, below: lines of text.
    """

    columns: Sequence[str]
    rows: Mapping[str, Sequence[str]]
    above: Sequence[str] = ()
    below: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What one task's scoring gives.

    Attributes:
        metrics: ready for JSON; `failures` (file name -> why) decides the exit status.
        tables: what is printed.
        entries: of `results.json`, in the form its server takes; None writes none.
    """

    metrics: dict[str, Any]
    tables: list[Table] = field(default_factory=list)
    entries: Any = None


def share(value: float) -> str:
    """A number from 0 to 1 as tables show it; "-" for one that could not be measured."""
    return f"{value:.3f}" if value > -1 else "-"


def percent(value: float) -> str:
    """A percentage as tables show it; "-" for one that could not be measured."""
    return f"{value:.1f}" if value > -1 else "-"
