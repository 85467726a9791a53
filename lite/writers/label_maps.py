"""Label maps as palette PNG: the pixel values are the classes, and any viewer shows their colours."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lite.errors import InputError
from lite.label_png import LARGEST_PIXELS, decode_labels, encode_labels
from lite.writers.atomic import write_bytes


def write_label_map(path: Path, labels: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> None:
    """Write (H, W) uint8 labels with the RGB of each; complete under its name or not there.

    Raises:
        ConfigError: the place cannot be written.
    """
    write_bytes(path, encode_labels(labels, palette))


def load_label_map(path: str | Path) -> np.ndarray:
    """Labels (H, W) uint8 of a palette or grey PNG.

    Raises:
        InputError: missing, or not such a file; the message names it.
    """
    try:
        path = Path(path)
        if path.is_file() and path.stat().st_size > 2 * LARGEST_PIXELS:
            raise InputError("the file is too large for a label map")
        return decode_labels(path.read_bytes())[0]
    except OSError as problem:
        raise InputError(f"{path}: cannot be read: {problem.strerror or problem}") from None
    except InputError as problem:
        raise InputError(f"{path}: {problem}") from None
