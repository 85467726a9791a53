"""Keypoints against annotated pictures: run a model or take results that exist, and measure what the data set asks."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lite.datasets.image_store import ImageStore
from lite.engine.pipeline import Pipeline
from lite.engine.predict import Finder, Predictions, boxes_finder, predict, truth_finder
from lite.engine.progress import progress
from lite.engine.results_folder import read_predictions
from lite.engine.worst import write_worst
from lite.errors import AnnotationError, ConfigError
from lite.evaluate.boxes import box_ap, detection_recall, invented_people
from lite.evaluate.coco_files import KeypointTruth
from lite.evaluate.config import EvalConfig
from lite.evaluate.data_sets import DataSet, open_truth, parts_of
from lite.evaluate.keypoint_ap import crowd_ap, keypoint_ap, keypoint_ap_by_part, load_pycocotools
from lite.evaluate.pckh import keypoints_of_people, pckh
from lite.evaluate.report import Scored, Table, percent, share
from lite.evaluate.result_files import preds_of, read_boxes, read_entries, read_preds, server_entries
from lite.evaluate.submit import OKS_THR, PredictedPerson, SubmitRule, submit
from lite.evaluate.worst import PictureScore, oks_scores, pckh_scores
from lite.skeletons import Skeleton
from lite.writers.records import describe_model


@dataclass(kw_only=True)
class Case:
    """Everything a score needs.

    Attributes:
        data_set, skeleton, truth: what is annotated.
        predictions: people with their boxes; None for a results file, which has none.
        bottom_up: whether the network needed no boxes.
        people: predicted people. entries: what of them is scored by OKS.
        model: what ran.
    """

    data_set: DataSet
    skeleton: Skeleton
    truth: KeypointTruth
    predictions: Predictions | None = None
    bottom_up: bool = False
    people: Sequence[PredictedPerson] = ()
    entries: list[dict[str, Any]] = field(default_factory=list)
    model: dict[str, Any] = field(default_factory=dict)


def score_keypoints(config: EvalConfig, pipeline: Pipeline | None) -> Scored:
    """Numbers, table and server entries of a keypoint network, or of `config.predictions` when there is none.

    Raises:
        HpeLiteError: files or settings that do not fit.
    """
    load_pycocotools()  # before the long part, not after it
    if config.annotations is None:
        raise ConfigError("annotations: expected the annotation file of the keypoints, found nothing")
    named = pipeline.pose.spec.skeleton if pipeline else config.skeleton
    data_set, skeleton, truth = open_truth(config.annotations, config.dataset, named, config.heads)
    if not truth.images:
        raise AnnotationError(f"{config.annotations}: expected annotated pictures, found none")
    case = Case(data_set=data_set, skeleton=skeleton, truth=_first(config, truth))
    if pipeline is None:
        _take_results(config, case, truth)
    else:
        _run_model(config, case, pipeline)
    metrics = {
        "data_set": data_set.name,
        "pictures": len(case.truth.images),
        "annotated_people": sum(not p["iscrowd"] and p["num_keypoints"] > 0 for p in case.truth.people),
        "areas_estimated": sum(p.get("area_is_estimate", False) for p in case.truth.people),
        "predicted_people": len(case.people if data_set.metric == "pckh" else case.entries),
        "failures": case.predictions.failures if case.predictions else {},
        "pictures_without_result": len(case.predictions.missing) if case.predictions else 0,
    }
    measured = _measure_pckh if data_set.metric == "pckh" else _measure_oks
    metrics, table, entries, pictures = measured(config, case, metrics)
    if config.worst:
        metrics["worst"] = write_worst(config, case.truth, skeleton, pictures)
        drawn = [picture["picture"] for picture in metrics["worst"]]
        table = replace(table, below=[*table.below, f"worst, drawn in {config.output}/worst: {', '.join(drawn)}"])
    return Scored(metrics=metrics | {"model": case.model}, tables=[table], entries=entries)


def _first(config: EvalConfig, truth: KeypointTruth) -> KeypointTruth:
    """The truth of the pictures that are asked for."""
    return truth if config.limit is None else truth.only({image["id"] for image in truth.images[: config.limit]})


def _run_model(config: EvalConfig, case: Case, pipeline: Pipeline) -> None:
    """People the model predicts, and a description of the networks that ran."""
    case.bottom_up = pipeline.pose.spec.task == "pose-bottom-up"
    find = _finder(config, pipeline, case.truth)
    with ImageStore(config.images) as store, progress(len(case.truth.images), config.quiet) as advance:
        options = {"frame_batch": config.frame_batch, "advance": advance}
        case.predictions = predict(case.truth, store, pipeline, find, **options)
    case.model = {"pose": describe_model(pipeline.pose.spec)}
    if pipeline.person is not None:
        case.model["detector"] = describe_model(pipeline.person.spec)
    _take_people(config, case)


def _take_results(config: EvalConfig, case: Case, whole: KeypointTruth) -> None:
    """What a results folder or file holds; people of other pictures than those asked for are left out."""
    path = Path(config.predictions or "")
    if path.is_dir():
        case.predictions = read_predictions(path, case.truth)
        _take_people(config, case)
    elif case.data_set.metric == "pckh":
        case.people = [p for p in read_preds(path, whole, case.truth) if p.image_id in case.truth.image_ids]
    else:
        wanted = case.truth.image_ids
        case.entries = [entry for entry in read_entries(path, whole) if entry["image_id"] in wanted]


def _take_people(config: EvalConfig, case: Case) -> None:
    assert case.predictions is not None
    case.people = case.predictions.people
    options = {"category_id": case.truth.category_id, "rule": _submit_rule(config, case.bottom_up)}
    if case.data_set.metric != "pckh":
        case.entries = submit(case.people, case.skeleton.oks_sigmas, **options)


def _submit_rule(config: EvalConfig, bottom_up: bool) -> SubmitRule:
    usual_score, usual_thr = ("given", 1.0) if bottom_up else ("box-times-keypoints", OKS_THR)
    return SubmitRule(
        person_score=usual_score if config.person_score == "auto" else config.person_score,
        vis_thr=config.vis_thr,
        oks_thr=usual_thr if config.oks_thr is None else config.oks_thr,
        soft=config.soft_nms,
        max_people=config.max_scored,
    )


Measured = tuple[dict[str, Any], Table, Any, list[PictureScore]]  # metrics, table, server entries, pictures


def _measure_oks(config: EvalConfig, case: Case, metrics: dict[str, Any]) -> Measured:
    truth, entries, sigmas = case.truth, case.entries, case.skeleton.oks_sigmas
    image_ids = _counted(config, truth, {entry["image_id"] for entry in entries})
    options: dict[str, Any] = {"image_ids": image_ids, "max_people": config.max_scored}
    parts = parts_of(case.skeleton)
    if case.data_set.metric == "crowd":
        metrics["keypoints"] = crowd_ap(truth, entries, sigmas, **options)
    else:
        body = parts["body"] if len(parts) > 1 else range(len(sigmas))
        options["body"] = body
        metrics["keypoints"] = keypoint_ap(truth, entries, sigmas, **options)
        if len(parts) > 1:
            metrics["parts"] = keypoint_ap_by_part(truth, entries, sigmas, parts, **options)
    metrics |= {"protocol": config.protocol, "pictures_counted": len(image_ids)}
    if case.predictions and not case.bottom_up and (config.predictions or config.boxes != "gt"):
        metrics["boxes"] = _measure_boxes(truth, case.predictions)
    columns = {**metrics.get("parts", {}), "all": metrics["keypoints"]}
    rows = {name: [share(numbers[name]) for numbers in columns.values()] for name in metrics["keypoints"]}
    table = Table(columns=list(columns), rows=rows, above=_above(metrics), below=_below(metrics))
    pictures = oks_scores(truth, entries, sigmas) if config.worst else []
    return metrics, table, server_entries(entries), pictures


def _measure_pckh(config: EvalConfig, case: Case, metrics: dict[str, Any]) -> Measured:
    truth = case.truth
    in_order = config.boxes == "gt" and not case.bottom_up and (not config.predictions or case.predictions is None)
    found = keypoints_of_people(truth, case.people, in_order=in_order)
    entries = preds_of(found)
    if config.protocol != "all":
        wanted = _counted(config, truth, {person.image_id for person in case.people})
        found = found[[person["image_id"] in wanted for person in truth.people]]
        truth = truth.only(wanted)
    metrics |= {"keypoints": pckh(truth, found), "protocol": config.protocol, "pictures_counted": len(truth.images)}
    rows = {name: [percent(value)] for name, value in metrics["keypoints"].items()}
    table = Table(columns=["all"], rows=rows, above=_above(metrics), below=_below(metrics))
    return metrics, table, entries, pckh_scores(truth, found) if config.worst else []


def _counted(config: EvalConfig, truth: KeypointTruth, predicted: set[int]) -> set[int]:
    """Pictures that count by the protocol."""
    chosen = {
        "all": truth.image_ids,
        "annotated": {person["image_id"] for person in truth.people},
        "predicted": predicted,
    }
    return chosen[config.protocol] & truth.image_ids


def _measure_boxes(truth: KeypointTruth, predictions: Predictions) -> dict[str, Any]:
    recall, people = detection_recall(truth, predictions.boxes_of)
    invented, boxes = invented_people(truth, predictions.boxes_of)
    return {
        "recall_iou50_score30": recall,
        "recall_people_above_48px": people,
        "invented": invented,
        "invented_of_boxes": boxes,
        "ap": box_ap(truth, predictions.boxes_of),
    }


def _above(metrics: dict[str, Any]) -> list[str]:
    counted = "" if metrics["protocol"] == "all" else f", {metrics['pictures_counted']} pictures counted"
    return [
        f"{metrics['data_set']}: {metrics['pictures']} pictures, {metrics['annotated_people']} people{counted}",
    ]


def _below(metrics: dict[str, Any]) -> list[str]:
    lines = []
    if boxes := metrics.get("boxes"):
        lines.append(
            f"boxes: recall {boxes['recall_iou50_score30']:.3f} of {boxes['recall_people_above_48px']} people above "
            f"48x48 px (IoU 0.5, score 0.3), AP {boxes['ap']['AP']:.3f}, invented {boxes['invented']} of "
            f"{boxes['invented_of_boxes']}"
        )
    if metrics["pictures_without_result"]:
        lines.append(f"pictures without a result, counted as empty: {metrics['pictures_without_result']}")
    return lines


def _finder(config: EvalConfig, pipeline: Pipeline, truth: KeypointTruth) -> Finder:
    if config.boxes == "gt":
        return truth_finder(truth, inclusive=config.inclusive_boxes)
    if config.boxes == "detector":
        return pipeline.detect
    return boxes_finder(truth, read_boxes(config.boxes, truth.category_id))
