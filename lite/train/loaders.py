"""What the loaders of both tasks share: what is held out, what an epoch sees, and the batches."""

from typing import Any

import cv2
import lightning.pytorch as pl
import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler

from lite.artifact import ArtifactSpec
from lite.errors import ConfigError
from lite.train.config import DataConfig, TrainConfig


def held_out_ids(image_ids: list[int], share: float) -> set[int]:
    """A fixed random share of the pictures."""
    ids = sorted(image_ids)
    order = np.random.default_rng(0).permutation(len(ids))
    return {ids[i] for i in order[: int(share * len(ids))]}


class EpochSampler(Sampler):
    """Indices with a fresh draw number each epoch; every data set is seen `weight` times, in a random order.

    Order and draws depend on seed and epoch alone, so that a resumed run goes on as it would have.
    """

    def __init__(self, sizes: list[int], weights: list[float], seed: int) -> None:
        self.sizes, self.weights, self.seed, self.epoch = sizes, weights, seed, 0
        self.done = (0, 0)  # (epoch, how many of its entries have been trained on); a resumed run leaves them out

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return sum(round(size * weight) for size, weight in zip(self.sizes, self.weights))

    def __iter__(self):
        rng = np.random.default_rng((self.seed, self.epoch))
        chosen, first = [], 0
        for size, weight in zip(self.sizes, self.weights):
            rounds = [rng.permutation(size) for _ in range(int(np.ceil(weight)))]
            picked = np.concatenate(rounds)[: round(size * weight)] if rounds else np.zeros(0, int)
            chosen.extend((first + int(i), self.epoch * 1000 + k // max(size, 1)) for k, i in enumerate(picked))
            first += size
        order = rng.permutation(len(chosen))
        return iter([chosen[i] for i in order[self.done[1] if self.done[0] == self.epoch else 0 :]])


class TrainingData(pl.LightningDataModule):
    """Loaders of a run.

    Subclasses say how files are read and entries made into batches.

    Raises:
        ConfigError: nothing to learn from.
        AnnotationError, InputError: files that cannot be read.
    """

    entries_are = "entries"  # for the message that there are none
    dataset: type[Dataset]  # (entries, spec, config of the run or None for validation)
    collate = None  # entries -> batch; None stacks

    def __init__(self, config: TrainConfig, spec: ArtifactSpec) -> None:
        super().__init__()
        self.config = config
        train, held = [], []
        for data in config.data:
            learn, keep = self.read(data, spec)
            train.append(learn)
            held.extend(keep)
        for data in config.validation:
            held.extend(self.read(data, spec)[0])
        self.sampler = EpochSampler([len(e) for e in train], [d.weight for d in config.data], config.seed)
        if not len(self.sampler) or not any(self.teaches(entry) for entries in train for entry in entries):
            files = ", ".join(data.annotations for data in config.data)
            raise ConfigError(f"data: expected {self.entries_are}, found none in {files}")
        self.train_set = self.dataset([e for entries in train for e in entries], spec, config)
        self.validation_set = self.dataset(held, spec, None)

    def read(self, data: DataConfig, spec: ArtifactSpec) -> tuple[list[Any], list[Any]]:
        """Entries to learn from and entries held out."""
        raise NotImplementedError

    def teaches(self, entry: Any) -> bool:
        """Whether an entry has a label."""
        return True

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.train_set, self.sampler, drop_last=len(self.sampler) >= self.config.batch_size)

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.validation_set, None, drop_last=False)

    def _loader(self, dataset: Dataset, sampler: Sampler | None, drop_last: bool) -> DataLoader:
        return DataLoader(
            dataset,
            batch_size=self.config.batch_size,
            sampler=sampler,
            num_workers=self.config.num_workers,
            drop_last=drop_last,
            collate_fn=self.collate,
            worker_init_fn=_one_thread,
        )


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(1)
