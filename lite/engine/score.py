"""`hpe-lite eval`: run a model over annotated pictures, or take results that exist, and score them."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lite.datasets.image_store import ImageStore
from lite.engine.pipeline import Pipeline
from lite.engine.predict import Finder, Predictions, boxes_finder, predict, read_predictions, truth_finder
from lite.engine.run import open_pipeline
from lite.errors import AnnotationError
from lite.evaluate.boxes import box_ap, detection_recall, invented_people
from lite.evaluate.coco_files import KeypointTruth, read_boxes, read_entries, read_truth, server_entries
from lite.evaluate.config import EvalConfig
from lite.evaluate.keypoint_ap import AP_NAMES, keypoint_ap, keypoint_ap_by_part, load_pycocotools, submit
from lite.skeletons import Skeleton, load_skeleton
from lite.writers.atomic import write_bytes
from lite.writers.records import describe_model, to_bytes

METRICS_SCHEMA = "hpe-lite/metrics/1"


def evaluate(config: EvalConfig) -> int:
    """Score, print the table, and write `results.json` (the COCO server's format) and `metrics.json`.

    Returns:
        0, or 1 when some pictures could not be used; they count as pictures in which nobody was found.

    Raises:
        HpeLiteError: a file, model or setting that cannot be used.
    """
    load_pycocotools()  # before the long part, not after it
    if config.predictions:
        skeleton = load_skeleton(config.skeleton)
        truth, predictions, entries = _existing(config, skeleton)
        model = {}
    else:
        with open_pipeline(_networks_needed(config)) as pipeline:
            if not config.quiet:
                print("\n".join(pipeline.describe()))
            skeleton = load_skeleton(pipeline.pose.spec.skeleton)
            truth = _first(config, _truth(config, skeleton))
            predictions, model = run_model(config, pipeline, truth)
            entries = _submit(config, predictions, truth, skeleton)
    metrics = measure(config, truth, entries, predictions, skeleton) | {"model": model}
    metrics |= {"config": dataclasses.asdict(config)}
    output = Path(config.output)
    write_bytes(output / "results.json", _encode(server_entries(entries)))
    write_bytes(output / "metrics.json", _encode(metrics, indent=2))
    if not config.quiet:
        _print(metrics, output)
    return 1 if metrics["failures"] else 0


def run_model(config: EvalConfig, pipeline: Pipeline, truth: KeypointTruth) -> tuple[Predictions, dict[str, Any]]:
    """People the model predicts, and a description of the networks that ran."""
    find = _finder(config, pipeline, truth)
    with ImageStore(config.images) as store, _progress(len(truth.images), config.quiet) as advance:
        predictions = predict(truth, store, pipeline, find, frame_batch=config.frame_batch, advance=advance)
    described = {"pose": describe_model(pipeline.pose.spec)}
    if pipeline.person is not None:
        described["detector"] = describe_model(pipeline.person.spec)
    return predictions, described


def measure(
    config: EvalConfig,
    truth: KeypointTruth,
    entries: list[dict[str, Any]],
    predictions: Predictions | None,
    skeleton: Skeleton,
) -> dict[str, Any]:
    """Everything that is measured, ready for JSON.

    Args:
        truth: the annotations.
        entries: what is scored.
        predictions: what they came from; None for a results file, which has no boxes.
        skeleton: its OKS constants, and its parts when it has more than a body.
    """
    sigmas = skeleton.oks_sigmas
    metrics: dict[str, Any] = {
        "schema": METRICS_SCHEMA,
        "pictures": len(truth.images),
        "annotated_people": sum(not p["iscrowd"] and p["num_keypoints"] > 0 for p in truth.people),
        "areas_estimated": sum(p.get("area_is_estimate", False) for p in truth.people),
        "predicted_people": len(entries),
        "failures": predictions.failures if predictions else {},
        "pictures_without_result": len(predictions.missing) if predictions else 0,
        "keypoints": keypoint_ap(truth, entries, sigmas),
    }
    if len(skeleton.parts) > 1:
        metrics["parts"] = keypoint_ap_by_part(truth, entries, sigmas, skeleton.parts)
    if predictions and (config.predictions or config.boxes != "gt"):
        recall, people = detection_recall(truth, predictions.boxes_of)
        invented, boxes = invented_people(truth, predictions.boxes_of)
        metrics["boxes"] = {
            "recall_iou50_score30": recall,
            "recall_people_above_48px": people,
            "invented": invented,
            "invented_of_boxes": boxes,
            "ap": box_ap(truth, predictions.boxes_of),
        }
    return metrics


def _truth(config: EvalConfig, skeleton: Skeleton) -> KeypointTruth:
    truth = read_truth(config.annotations, len(skeleton.keypoint_names))
    if not truth.images:
        raise AnnotationError(f"{config.annotations}: expected annotated pictures, found none")
    return truth


def _first(config: EvalConfig, truth: KeypointTruth) -> KeypointTruth:
    """The truth of the pictures that are asked for."""
    return truth if config.limit is None else truth.only({image["id"] for image in truth.images[: config.limit]})


def _existing(config: EvalConfig, skeleton: Skeleton) -> tuple[KeypointTruth, Predictions | None, list[dict[str, Any]]]:
    """Truth, people with their boxes (None for a results file, which has none), and the entries to score."""
    path, whole = Path(config.predictions), _truth(config, skeleton)
    truth = _first(config, whole)
    if path.is_dir():
        predictions = read_predictions(path, truth)
        return truth, predictions, _submit(config, predictions, truth, skeleton)
    wanted = truth.image_ids
    return truth, None, [entry for entry in read_entries(path, whole) if entry["image_id"] in wanted]


def _submit(
    config: EvalConfig, predictions: Predictions, truth: KeypointTruth, skeleton: Skeleton
) -> list[dict[str, Any]]:
    options = {"category_id": truth.category_id, "keypoint_thr": config.vis_thr, "oks_thr": config.oks_thr}
    return submit(predictions.people, skeleton.oks_sigmas, **options)


def _networks_needed(config: EvalConfig) -> EvalConfig:
    """The same settings, without a detector when the boxes come from elsewhere."""
    if config.boxes == "detector":
        return config
    return dataclasses.replace(config, detector="none", det_config=None, det_checkpoint=None)


def _finder(config: EvalConfig, pipeline: Pipeline, truth: KeypointTruth) -> Finder:
    if config.boxes == "gt":
        return truth_finder(truth)
    if config.boxes == "detector":
        return pipeline.detect
    return boxes_finder(truth, read_boxes(config.boxes, truth.category_id))


@contextmanager
def _progress(total: int, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; gives the function that moves it on by some pictures."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("pictures"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.advance(task, done)


def _encode(value: Any, indent: int | None = None) -> bytes:
    return to_bytes(json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def _print(metrics: dict[str, Any], output: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    columns = {**metrics.get("parts", {}), "all": metrics["keypoints"]}
    console.print(f"{metrics['pictures']} pictures, {metrics['annotated_people']} people", highlight=False)
    table = Table("", *columns)
    for key in AP_NAMES:
        table.add_row(key, *(f"{numbers[key]:.3f}" if numbers[key] > -1 else "-" for numbers in columns.values()))
    console.print(table)
    if "boxes" in metrics:
        boxes = metrics["boxes"]
        console.print(
            f"boxes: recall {boxes['recall_iou50_score30']:.3f} of {boxes['recall_people_above_48px']} people above "
            f"48x48 px (IoU 0.5, score 0.3), AP {boxes['ap']['AP']:.3f}, invented {boxes['invented']} of "
            f"{boxes['invented_of_boxes']}",
            highlight=False,
            soft_wrap=True,
        )
    for name, problem in metrics["failures"].items():
        console.print(f"failed: {name}: {problem}", markup=False, highlight=False)
    if metrics["pictures_without_result"]:
        console.print(f"pictures without a result, counted as empty: {metrics['pictures_without_result']}")
    console.print(f"written: {output / 'results.json'}, {output / 'metrics.json'}", highlight=False, soft_wrap=True)
