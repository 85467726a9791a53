"""Pictures with one class each: a folder for every class, or one folder and a list that names the class of each."""

import csv
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lite.datasets.image_store import PICTURES
from lite.errors import AnnotationError
from lite.label_sets.imagenet import imagenet_classes


@dataclass(frozen=True, kw_only=True)
class LabelledImage:
    """One picture and the class it shows; `name` is its path below the folder, with "/" between folders."""

    path: Path
    name: str
    label: int


def read_image_folders(
    root: str | Path, labels: Sequence[str] = (), listed: str | Path | None = None
) -> list[LabelledImage]:
    """Pictures below a folder with their classes, in the order of their paths, or of the list.

    Args:
        root: folder of class folders, or of the listed pictures.
        labels: class names of the network. Class folders bear such a name (spaces may be underscores, capitals do not
            matter) or, for the classes of ImageNet, a WordNet id. Without names, the sorted folders are the classes.
        listed: text file with a picture and its class on each line, the class as a number counted from 0, a name or a
            WordNet id; or a `.csv` with a header, of which the first two columns are read alike and of the second
            the first word counts (`LOC_val_solution.csv` of ImageNet).

    Raises:
        AnnotationError: no such folder or list, a class that is not known, a listed picture that is not there, or
            nothing at all.
    """
    root = Path(root)
    if not root.is_dir():
        raise AnnotationError(f"{root}: expected a folder of labelled pictures, found none; check the path")
    found = _from_list(root, labels, Path(listed)) if listed is not None else _from_folders(root, labels)
    if not found:
        raise AnnotationError(
            f"{listed or root}: expected pictures ({', '.join(PICTURES)}) in class folders or listed, found none; "
            "check the path"
        )
    return found


def _from_folders(root: Path, labels: Sequence[str]) -> list[LabelledImage]:
    folders = sorted(one.name for one in root.iterdir() if one.is_dir() and not one.name.startswith("."))
    known = known_classes(labels)
    found = []
    for position, folder in enumerate(folders):
        label = position if not labels else _label(folder, known, f"{root / folder}", "a folder named after a class")
        for here, inner, files in os.walk(root / folder):
            inner.sort()
            for file in sorted(files):
                if file.lower().endswith(PICTURES) and not file.startswith("."):
                    path = Path(here, file)
                    found.append(LabelledImage(path=path, name=path.relative_to(root).as_posix(), label=label))
    return found


def _from_list(root: Path, labels: Sequence[str], listed: Path) -> list[LabelledImage]:
    known = known_classes(labels)
    found = []
    for number, name, said in _rows(listed):
        where = f"{listed}, line {number}"
        if said.isdecimal() and len(said) < 10:
            label = int(said)
            if labels and label >= len(labels):
                raise AnnotationError(f"{where}: expected a class below {len(labels)}, found {label}")
        else:
            label = _label(said, known, where, "a class")
        path = root / name
        if not path.suffix:  # ImageNet's own list leaves the ending away
            path = path.with_suffix(".JPEG")
        if not path.is_file():
            raise AnnotationError(f"{where}: expected the picture {path}, found none; check the folder")
        found.append(LabelledImage(path=path, name=Path(name).as_posix(), label=label))
    return found


def _rows(listed: Path) -> list[tuple[int, str, str]]:
    """Line number, picture and class of each line that is not empty."""
    try:
        text = listed.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or "no UTF-8 text"
        raise AnnotationError(f"{listed}: expected a list of pictures and classes, found {reason}") from None
    if listed.suffix.lower() == ".csv":
        try:
            cells = [(n, row[:2]) for n, row in enumerate(csv.reader(text.splitlines()), start=1) if row][1:]
        except csv.Error as problem:
            raise AnnotationError(f"{listed}: expected lines of a picture and its class, found {problem}") from None
        rows = [(n, [row[0], *row[1].split()[:1]] if len(row) == 2 else row) for n, row in cells]
    else:
        rows = [(n, _halves(line)) for n, line in enumerate(text.splitlines(), start=1)]
    rows = [(n, row) for n, row in rows if row]
    for number, row in rows:
        if len(row) != 2:
            raise AnnotationError(f"{listed}, line {number}: expected a picture and its class, found {row[0][:60]!r}")
    return [(number, name.strip(), said.strip()) for number, (name, said) in rows]


def _halves(line: str) -> list[str]:
    """A picture and its class; names of pictures may hold spaces where the class is a number or an id, else classes."""
    cut = line.rsplit(maxsplit=1)
    return cut if re.fullmatch(r"\d+|n\d{8}", cut[-1] if cut else "") else line.split(maxsplit=1)


def known_classes(labels: Sequence[str]) -> dict[str, int]:
    """How a class may be called -> its number; the names of ImageNet bring their WordNet ids along."""
    known = {_plain(name): label for label, name in enumerate(labels)}
    if tuple(labels) == tuple(imagenet_classes().values()):
        known |= {wordnet_id: label for label, wordnet_id in enumerate(imagenet_classes())}
    return known


def _plain(name: str) -> str:
    return name.replace("_", " ").strip().lower()


def _label(said: str, known: dict[str, int], where: str, expected: str) -> int:
    if (label := known.get(_plain(said))) is None:
        some = ", ".join(list(known)[:3]) or "none"
        raise AnnotationError(f"{where}: expected {expected} of the network ({some}, ...), found {said[:60]!r}")
    return label
