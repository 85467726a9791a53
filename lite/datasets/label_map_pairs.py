"""Pictures with a label map each: LIP, CIHP, FaceSynthetics, or any folder of pictures beside one of label maps."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lite.datasets.image_store import PICTURES
from lite.errors import AnnotationError, InputError
from lite.label_png import decode_labels

# Number in goliath28 of each of the 34 classes that Goliath's own label maps have; six were dropped.
GOLIATH34_TO_28 = (
    0, 1, 255, 255, 255, 2, 3, 255, 4, 5, 6, 7, 8, 9, 10, 11, 12,
    255, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 255, 23, 24, 25, 26, 27,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LabelledPicture:
    """A picture and its label map; `name` is the picture's place below its folder."""

    name: str
    image: Path
    labels: Path

    def read_labels(self, table: Sequence[int] | None = None) -> np.ndarray:
        """(H, W) uint8, 255 where nothing is judged.

        Args:
            table: other number for each label of the file, such as those of a set with more classes; labels beyond it
                become 255.

        Raises:
            AnnotationError: not a label map.
        """
        try:
            labels = decode_labels(self.labels.read_bytes())[0]
        except (OSError, InputError) as problem:
            raise AnnotationError(f"{self.labels}: {problem}") from None
        if table is None:
            return labels
        numbers = np.full(256, 255, np.uint8)
        numbers[: len(table)] = table
        return numbers[labels]


def read_pairs(root: str | Path, kind: str = "folders", **names: str) -> list[LabelledPicture]:
    """The labelled pictures of a data set, sorted by name.

    Args:
        root: its folder.
        kind: key of `LAYOUTS`.
        names: arguments of the layout: `part` ("train" or "val") of LIP and CIHP; `images`, `labels` and `ending` of
            "folders".

    Raises:
        AnnotationError: unknown layout, missing folder, a picture without label map, or no picture at all.
    """
    root = Path(root)
    if kind not in LAYOUTS:
        raise AnnotationError(f"expected a layout of {', '.join(LAYOUTS)}, found {kind!r}")
    pairs = LAYOUTS[kind](root, **names)
    if not pairs:
        raise AnnotationError(f"{root}: expected labelled pictures in the layout {kind}, found none")
    lacking = [pair for pair in pairs if not pair.labels.is_file()]
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise AnnotationError(
            f"{lacking[0].image}: expected its label map {lacking[0].labels}, found none{more}; complete the data set"
        )
    return pairs


def folders(root: Path, images: str = "images", labels: str = "labels", ending: str = ".png") -> list[LabelledPicture]:
    """`<images>/a/b.jpg` with `<labels>/a/b<ending>`."""
    return [
        LabelledPicture(name=name, image=path, labels=(root / labels / name).with_name(path.stem + ending))
        for name, path in _pictures(root / images)
    ]


def lip(root: Path, part: str = "val") -> list[LabelledPicture]:
    """`images/val_images` and `segmentations/val_segmentations`; `part` is "train" or "val"."""
    return folders(root, f"images/{part}_images", f"segmentations/{part}_segmentations")


def cihp(root: Path, part: str = "val") -> list[LabelledPicture]:
    """`Validation/Images` and `Validation/Category_ids`; `part` is "train" or "val"."""
    folder = {"train": "Training", "val": "Validation"}.get(part, part)
    return folders(root, f"{folder}/Images", f"{folder}/Category_ids")


def face_synthetics(root: Path) -> list[LabelledPicture]:
    """One folder: `000000.png` with `000000_seg.png`, and files that are of no use here."""
    return [
        LabelledPicture(name=name, image=path, labels=path.with_name(f"{path.stem}_seg.png"))
        for name, path in _pictures(root)
        if path.suffix.lower() == ".png" and not path.stem.endswith("_seg")
    ]


LAYOUTS: dict[str, Callable[..., list[LabelledPicture]]] = {
    "folders": folders,
    "lip": lip,
    "cihp": cihp,
    "face-synthetics": face_synthetics,
}


def _pictures(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every picture below a folder with its name there, sorted."""
    if not folder.is_dir():
        raise AnnotationError(f"{folder}: expected a folder of pictures, found none; check the path")
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in PICTURES and path.is_file():
            yield path.relative_to(folder).as_posix(), path
