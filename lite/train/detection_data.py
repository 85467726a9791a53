"""Annotated pictures as detector canvases, and the loaders that hand them out in batches.

Regions where people may be without a box are kept as such: crowds, pictures whose boxes are not complete, and people
that the canvas shows only a sliver of. A detector must not learn that these are background.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from lite.artifact import ArtifactSpec
from lite.datasets import ImageStore, read_coco
from lite.detect import letterbox
from lite.geometry import letterbox_geometry
from lite.models.zoo import ZOO
from lite.train.augment import change_pixels
from lite.train.config import DataConfig, TrainConfig
from lite.train.loaders import TrainingData, held_out_ids

LEAST_SHOWN = 0.3  # share of a box the canvas must show for it to count as a person


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """One picture: `boxes` (M, 4) of people and `ignored` (I, 4) regions of unknown content, float32 xyxy px."""

    store: ImageStore
    file_name: str
    boxes: np.ndarray
    ignored: np.ndarray


def read_pictures(data: DataConfig) -> tuple[list[Picture], list[Picture]]:
    """Pictures to learn from and pictures held out; the choice depends on the file alone."""
    annotations = read_coco(data.annotations)
    store = ImageStore(data.images)
    held = held_out_ids([image.id for image in annotations.images], data.hold_out)
    people = annotations.people_of()
    sides: tuple[list[Picture], list[Picture]] = ([], [])
    for image in annotations.images:
        height, width = image.size_hw
        whole = [] if image.boxes_complete else [np.float32([0, 0, width, height])]
        boxes = [np.clip(p.box, 0, np.float32([width, height, width, height])) for p in people[image.id]]
        crowds = [box for box, person in zip(boxes, people[image.id]) if person.is_crowd]
        persons = [
            box for box, person in zip(boxes, people[image.id]) if not person.is_crowd and (box[2:] - box[:2] > 1).all()
        ]
        picture = Picture(
            store=store, file_name=image.file_name, boxes=_stack(persons), ignored=_stack([*crowds, *whole])
        )
        sides[image.id in held].append(picture)
    return sides


def _stack(boxes: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack(boxes).astype(np.float32) if len(boxes) else np.zeros((0, 4), np.float32)


def place(boxes: np.ndarray, factor: float, offset_xy: Sequence[float], area_xyxy: Sequence[float]) -> np.ndarray:
    """Boxes (N, 4) scaled, moved and clipped to an area of the canvas, all px."""
    low_high = np.float32(area_xyxy)
    moved = boxes * np.float32(factor) + np.tile(np.float32(offset_xy), 2)
    return np.clip(moved, np.tile(low_high[:2], 2), np.tile(low_high[2:], 2)).astype(np.float32)


def paste(
    canvas: np.ndarray,
    pixels: np.ndarray,
    picture: Picture,
    area: tuple[int, int, int, int],
    scale: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a picture into an area of the canvas at a random size and place.

    Args:
        canvas: (h, w, 3) uint8, changed in place.
        area: x1, y1, x2, y2 px of the canvas.
        scale: range of sizes; 1 just fits into the area, larger ones are cut off.

    Returns:
        boxes (M, 4) of the people shown and ignored regions (I, 4), float32 canvas px.
    """
    x1, y1, x2, y2 = area
    height, width = pixels.shape[:2]
    fit = min((x2 - x1) / width, (y2 - y1) / height)
    factor = fit * np.exp(rng.uniform(*np.log(scale)))
    room = np.array([x2 - x1 - width * factor, y2 - y1 - height * factor])
    offset = np.array([x1, y1]) + room * rng.random(2)  # a picture too large has negative room
    # pixel centres are half a px from the edges the boxes are measured by
    shift = offset - [x1, y1] + 0.5 * factor - 0.5
    matrix = np.float64([[factor, 0, shift[0]], [0, factor, shift[1]]])
    drawn = cv2.warpAffine(
        pixels, matrix, (x2 - x1, y2 - y1), flags=cv2.INTER_LINEAR, borderValue=canvas[y1, x1].tolist()
    )
    canvas[y1:y2, x1:x2] = drawn
    boxes, ignored = (place(b, factor, offset, area) for b in (picture.boxes, picture.ignored))
    shown = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    whole = (picture.boxes[:, 2:] - picture.boxes[:, :2]).prod(1) * factor**2
    kept = (shown >= LEAST_SHOWN * whole) & (boxes[:, 2:] - boxes[:, :2] > 2).all(1)
    ignored = np.concatenate([ignored, boxes[~kept]])
    return boxes[kept], ignored[(ignored[:, 2:] > ignored[:, :2]).all(1)]


class DetectionDataset(Dataset):
    """Canvases: `pixels` (h, w, 3) uint8 RGB, `boxes` (M, 4) and `ignored` (I, 4) float32 canvas px.

    Args:
        pictures: what to show.
        spec: of the network: canvas and fill.
        config: of the run; None gives the canvases as inference sees them, for validation.
    """

    def __init__(self, pictures: list[Picture], spec: ArtifactSpec, config: TrainConfig | None) -> None:
        self.pictures = pictures
        self.spec = spec
        self.config = config

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, torch.Tensor]:
        index, draw = index if isinstance(index, tuple) else (index, 0)
        picture = self.pictures[index]
        if self.config is None:
            pixels = picture.store.read(picture.file_name)
            _, scale = letterbox_geometry(pixels.shape[:2], self.spec.input_hw)
            factor = np.tile(np.float32(scale), 2)
            return _tensors(letterbox(pixels, self.spec), picture.boxes * factor, picture.ignored * factor)
        return self._changed(index, np.random.default_rng((self.config.seed, draw, index)))

    def _changed(self, index: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        augment = self.config.augment
        height, width = self.spec.input_hw
        canvas = np.full((height, width, 3), self.spec.letterbox.fill, np.uint8)
        areas, chosen = [(0, 0, width, height)], [index]
        if rng.random() < augment.mosaic_prob:
            x, y = (int(side * rng.uniform(0.35, 0.65)) for side in (width, height))
            areas = [(0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)]
            chosen += rng.integers(0, len(self.pictures), 3).tolist()
        boxes, ignored = [], []
        for area, one in zip(areas, chosen):
            picture = self.pictures[one]
            pixels = change_pixels(picture.store.read(picture.file_name), augment, rng)  # the filling stays as it is
            shown, unknown = paste(canvas, pixels, picture, area, augment.scale, rng)
            boxes.append(shown)
            ignored.append(unknown)
        boxes, ignored = np.concatenate(boxes), np.concatenate(ignored)
        if rng.random() < augment.flip_prob:
            canvas = np.ascontiguousarray(canvas[:, ::-1])
            boxes, ignored = (_mirror(b, width) for b in (boxes, ignored))
        return _tensors(canvas, boxes, ignored)


def _mirror(boxes: np.ndarray, width: int) -> np.ndarray:
    """Box edges (not pixel centres) of the mirrored canvas."""
    mirrored = boxes.copy()
    mirrored[:, [0, 2]] = width - boxes[:, [2, 0]]
    return mirrored


def _tensors(pixels: np.ndarray, boxes: np.ndarray, ignored: np.ndarray) -> dict[str, torch.Tensor]:
    return {
        "pixels": torch.from_numpy(np.ascontiguousarray(pixels)),
        "boxes": torch.from_numpy(boxes.astype(np.float32)),
        "ignored": torch.from_numpy(ignored.astype(np.float32)),
    }


def collate(entries: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor | list[torch.Tensor]]:
    """`pixels` (B, h, w, 3) stacked; `boxes` and `ignored` as lists, since every picture has its own number."""
    return {
        "pixels": torch.stack([entry["pixels"] for entry in entries]),
        "boxes": [entry["boxes"] for entry in entries],
        "ignored": [entry["ignored"] for entry in entries],
    }


class DetectionData(TrainingData):
    """Loaders of a detection run."""

    entries_are = "pictures with person boxes"
    dataset = DetectionDataset
    collate = staticmethod(collate)

    def read(self, data: DataConfig, spec: ArtifactSpec) -> tuple[list[Picture], list[Picture]]:
        return read_pictures(data)

    def teaches(self, entry: Picture) -> bool:
        return len(entry.boxes) > 0


def build_detection_data(config: TrainConfig) -> DetectionData:
    """The loaders of the detection task for the network `config.model` names."""
    return DetectionData(config, ZOO[config.model].build().spec)
