"""Classes against pictures of known class: run a classifier over them and measure top-1 and top-5 accuracy."""

import numpy as np

from lite.datasets.image_folders import read_image_folders
from lite.datasets.image_store import ImageStore
from lite.engine.pipeline import Pipeline
from lite.engine.predict import read_batches, refuse_unreadable
from lite.engine.progress import progress
from lite.errors import ConfigError
from lite.evaluate.classification import TOPS, class_accuracy
from lite.evaluate.config import EvalConfig
from lite.evaluate.report import Scored, Table, share
from lite.writers.records import describe_model

NO_CLASS = -1


def score_classes(config: EvalConfig, pipeline: Pipeline) -> Scored:
    """Accuracy of a classification network; pictures that cannot be used count as wrong.

    `config.images` holds a folder for every class, or the pictures that the list `config.annotations` names with their
    classes.

    Raises:
        HpeLiteError: files or settings that do not fit.
    """
    if config.images is None or config.worst:
        raise ConfigError("images: expected a folder of labelled pictures, and no worst, to score a classifier")
    spec = pipeline.pose.spec
    labelled = read_image_folders(config.images, spec.labels or (), config.annotations)[: config.limit]
    images = [{"id": n, "file_name": one.name} for n, one in enumerate(labelled)]
    likeliest = np.full((len(labelled), max(TOPS)), NO_CLASS, np.int64)
    failures: dict[str, str] = {}
    entries = []
    with ImageStore(config.images) as store, progress(len(labelled), config.quiet) as advance:
        for frames, numbers, unread in read_batches(images, store, config.frame_batch):
            failures |= unread
            for number, record in zip(numbers, pipeline(frames) if frames else ()):
                if record.error is not None or not record.classes:
                    failures[record.source] = record.error or "the network gave no class"
                    continue
                found = [one["label"] for one in record.classes[: max(TOPS)]]
                likeliest[number, : len(found)] = found
                scores = [one["score"] for one in record.classes[: max(TOPS)]]
                entries.append({"image": record.source, "labels": found, "scores": scores})
            advance(len(numbers) + len(unread))
    refuse_unreadable(failures, len(labelled))
    accuracy = class_accuracy(likeliest, [one.label for one in labelled])
    metrics = {
        "pictures": len(labelled),
        "failures": failures,
        "classes": accuracy,
        "model": {"classify": describe_model(spec)},
    }
    rows = {name: [share(value)] for name, value in accuracy.items()}
    table = Table(columns=["all"], rows=rows, above=[f"{len(labelled)} pictures"])
    return Scored(metrics=metrics, tables=[table], entries=entries)
