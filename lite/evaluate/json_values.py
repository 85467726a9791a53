"""Values out of other people's JSON: checked before they are used, named in the error when they do not fit."""

import json
from pathlib import Path
from typing import Any

from lite.errors import AnnotationError

# COCO-WholeBody spreads its 133 keypoints over these fields, in this order: field -> number of keypoints.
WHOLEBODY_FIELDS = {"keypoints": 17, "foot_kpts": 6, "face_kpts": 68, "lefthand_kpts": 21, "righthand_kpts": 21}
LARGEST = 1e9  # px, or any other quantity of an annotation; its square and its area stay far from overflowing
GOLIATH_FIELD, GOLIATH_KEYPOINTS = "goliath_wholebody_kpts", 308  # one field holds them all


def read_json(path: str | Path) -> Any:
    """The content of a JSON file.

    Raises:
        AnnotationError: there is none, or it is no JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AnnotationError(f"{path}: expected a JSON file, found none; check the path") from None
    except (OSError, ValueError, RecursionError) as problem:
        raise AnnotationError(f"{path}: expected a JSON file, found something else ({problem})") from None


def flat_keypoints(entry: dict[str, Any], num_keypoints: int, where: str, *, required: bool) -> list[float]:
    """The flat K triples of an annotation or result; without the field: all unlabelled, unless `required`.

    Raises:
        AnnotationError: they are not K finite triples, or there are none where they are `required`.
    """
    body = entry.get("keypoints")
    together = isinstance(body, list) and len(body) == 3 * num_keypoints
    if num_keypoints == sum(WHOLEBODY_FIELDS.values()) and not together:
        fields = WHOLEBODY_FIELDS
    elif num_keypoints == GOLIATH_KEYPOINTS and not together:
        fields = {GOLIATH_FIELD: num_keypoints}
    else:
        fields = {"keypoints": num_keypoints}
    joined: list[float] = []
    for name, count in fields.items():
        values = entry.get(name)
        if values is None and not required:
            values = [0.0] * (3 * count)
        if not is_numbers(values, 3 * count):
            found = f"{len(values)} values" if isinstance(values, list) else short(values)
            raise AnnotationError(
                f"{where}: expected {name} to hold {count} finite triples ({3 * count} numbers), found {found}"
            )
        joined.extend(values)
    return joined


def is_number(value: Any) -> bool:
    """Whether it is a number that can be reckoned with: finite, and not beyond `LARGEST`."""
    return isinstance(value, (int, float)) and -LARGEST <= value <= LARGEST  # false for NaN


def is_area(value: Any) -> bool:
    """Whether it is a number from 0 on that an area can have."""
    return isinstance(value, (int, float)) and 0 <= value <= LARGEST**2


def is_numbers(values: Any, count: int) -> bool:
    """Whether it is a list of `count` finite numbers."""
    return isinstance(values, list) and len(values) == count and all(map(is_number, values))


def short(value: Any) -> str:
    """A value as a message shows it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
