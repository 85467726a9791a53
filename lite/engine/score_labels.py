"""Label maps against annotated ones: run a segmentation network over the pictures and measure mIoU, mAcc and aAcc."""

from pathlib import Path
from typing import Any

from lite.datasets.image_store import ImageStore
from lite.datasets.label_map_pairs import LabelledPicture, read_pairs
from lite.engine.pipeline import Pipeline
from lite.engine.predict import read_batches, refuse_unreadable
from lite.engine.progress import progress
from lite.errors import AnnotationError, ConfigError
from lite.evaluate.config import EvalConfig
from lite.evaluate.report import Scored, Table
from lite.evaluate.segmentation import Confusion
from lite.structures import Result
from lite.writers.records import describe_model


def score_labels(config: EvalConfig, pipeline: Pipeline) -> Scored:
    """Shares of right pixels, of all classes and of each; pictures that cannot be used do not count.

    `config.images` holds pictures and `config.annotations` their label maps under the same names (LIP, CIHP); without
    it the label map of `x.png` is `x_seg.png` beside it (FaceSynthetics).

    Raises:
        HpeLiteError: files or settings that do not fit.
    """
    if config.images is None or config.worst:
        raise ConfigError("images: expected a folder of pictures, and no worst, to score a segmentation network")
    pairs = _pairs(config)[: config.limit]
    spec = pipeline.pose.spec
    names = spec.labels or ()
    counted, failures = Confusion(len(names)), {}
    images: list[dict[str, Any]] = [{"id": n, "file_name": pair.name} for n, pair in enumerate(pairs)]
    with ImageStore(config.images) as store, progress(len(pairs), config.quiet) as advance:
        for frames, numbers, unread in read_batches(images, store, config.frame_batch):
            failures |= unread
            for number, result in zip(numbers, pipeline.results(frames) if frames else ()):
                if problem := _count(counted, pairs[number], result):
                    failures[pairs[number].name] = problem
            advance(len(numbers) + len(unread))
    refuse_unreadable(failures, len(pairs))
    scores = counted.scores()
    unknown = int(counted.counts[len(names)].sum())
    metrics = {
        "pictures": len(pairs),
        "failures": failures,
        "labels": scores.summary(),
        "classes": scores.table(names),
        "pixels_of_unknown_label": unknown,
        "model": {"segment": describe_model(spec)},
    }
    rows = {row["name"]: [_percent(row["IoU"]), _percent(row["Acc"])] for row in metrics["classes"]}
    below = [", ".join(f"{name} {_percent(value)}" for name, value in metrics["labels"].items())]
    if unknown:
        below.append(
            f"{unknown} pixels are annotated with labels from {len(names)} on, which the network does not have"
        )
    return Scored(
        metrics=metrics,
        tables=[Table(columns=["IoU", "Acc"], rows=rows, above=[f"{len(pairs)} pictures"], below=below)],
    )


def _count(counted: Confusion, pair: LabelledPicture, result: Result) -> str | None:
    """Count one picture; why it cannot be counted, if so."""
    if result.label_map is None:
        return result.record.error or "the network gave no label map"
    try:
        counted.add(result.label_map, pair.read_labels(), pair.name)
    except AnnotationError as problem:
        return str(problem)
    return None


def _pairs(config: EvalConfig) -> list[LabelledPicture]:
    images = Path(config.images or "").absolute()
    if config.annotations is None:
        return read_pairs(images, "face-synthetics")
    return read_pairs(images, "folders", images=".", labels=str(Path(config.annotations).absolute()))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
