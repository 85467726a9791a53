"""Annotated people as training crops, and the loaders that hand them out in batches."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from lite.artifact import ArtifactSpec
from lite.datasets import ImageStore, Person, labelled_people, read_coco
from lite.geometry import box_to_center_scale, classic_affine, flip_points, transform_points, udp_affine
from lite.models.zoo import ZOO
from lite.skeletons import load_skeleton
from lite.train.augment import change_pixels, half_body_box, random_crop_box
from lite.train.config import DataConfig, TrainConfig
from lite.train.loaders import TrainingData, held_out_ids


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """One person of one picture."""

    store: ImageStore
    file_name: str
    person: Person


def read_entries(data: DataConfig, skeleton: str) -> tuple[list[Entry], list[Entry]]:
    """People to learn from and people held out; all people of a picture are on the same side.

    Which pictures are held out depends on the file alone, so every run on it holds out the same ones.
    """
    annotations = read_coco(data.annotations, skeleton)
    store = ImageStore(data.images)
    names = {image.id: image.file_name for image in annotations.images}
    held = held_out_ids(list(names), data.hold_out)
    entries = [
        (p.image_id in held, Entry(store=store, file_name=names[p.image_id], person=p))
        for p in labelled_people(annotations)
    ]
    return [e for is_held, e in entries if not is_held], [e for is_held, e in entries if is_held]


class PoseDataset(Dataset):
    """Crops of people: `pixels` (h, w, 3) uint8 RGB, `keypoints` (K, 2) crop px, `weights` (K,), `oks_scale` px^2.

    Args:
        entries: people.
        spec: of the network: input size, crop rule, skeleton.
        config: of the run; None gives the plain crops, for validation.
    """

    def __init__(self, entries: list[Entry], spec: ArtifactSpec, config: TrainConfig | None) -> None:
        self.entries = entries
        self.spec = spec
        self.config = config
        self.skeleton = load_skeleton(spec.skeleton)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, torch.Tensor]:
        index, draw = index if isinstance(index, tuple) else (index, 0)
        entry = self.entries[index]
        pixels = entry.store.read(entry.file_name)
        points = entry.person.keypoints[:, :2].copy()
        visible = entry.person.keypoints[:, 2] > 0
        if self.config is None:
            return self._pack(pixels, entry.person.box, points, visible, entry.person.area, None)
        rng = np.random.default_rng((self.config.seed, draw, index))
        return self._pack(pixels, entry.person.box, points, visible, entry.person.area, rng)

    def _pack(
        self,
        pixels: np.ndarray,
        box: np.ndarray,
        points: np.ndarray,
        visible: np.ndarray,
        area: float,
        rng: np.random.Generator | None,
    ) -> dict[str, torch.Tensor]:
        height, width = input_hw = self.spec.input_hw
        rule = self.spec.crop
        augment = self.config.augment if rng is not None else None
        if augment and rng.random() < augment.half_body_prob:
            half = half_body_box(points, visible, self.skeleton, rule.padding, rng)
            box = box if half is None else half
        center, scale = (value[0] for value in box_to_center_scale(box[None], rule.padding, input_hw))
        rotation = 0.0
        if augment:
            center, scale, rotation = random_crop_box(center, scale, augment, rng)
        affine = (udp_affine if rule.affine == "udp" else classic_affine)(center, scale, input_hw, rotation)
        crop = cv2.warpAffine(pixels, affine, (width, height), flags=cv2.INTER_LINEAR)
        points = transform_points(points, affine)
        if augment and rng.random() < augment.flip_prob:
            crop = np.ascontiguousarray(crop[:, ::-1])
            points = flip_points(points, width, self.skeleton.flip_indices)
            visible = visible[list(self.skeleton.flip_indices)]
        if augment:
            crop = change_pixels(crop, augment, rng)
        inside = ((points >= 0) & (points <= (width - 1, height - 1))).all(1)
        weights = visible & inside if augment else visible
        return {
            "pixels": torch.from_numpy(np.ascontiguousarray(crop)),
            "keypoints": torch.from_numpy(np.where(visible[:, None], points, 0).astype(np.float32)),
            "weights": torch.from_numpy(weights.astype(np.float32)),
            "oks_scale": torch.tensor(area * (width / scale[0]) * (height / scale[1]), dtype=torch.float32),
        }


class PoseData(TrainingData):
    """Loaders of a pose run."""

    entries_are = "people with labelled keypoints"
    dataset = PoseDataset

    def read(self, data: DataConfig, spec: ArtifactSpec) -> tuple[list[Entry], list[Entry]]:
        return read_entries(data, spec.skeleton)


def build_pose_data(config: TrainConfig) -> PoseData:
    """The loaders of the pose task for the network `config.model` names."""
    return PoseData(config, ZOO[config.model].build().spec)
