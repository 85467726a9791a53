"""The files of one picture: what was found as JSON, drawn on the picture, and as pictures of its own."""

from pathlib import Path
from typing import Any

import numpy as np

from lite.artifact import ArtifactSpec
from lite.config import InferConfig
from lite.draw import Style, draw
from lite.draw_labels import draw_labels
from lite.engine.pipeline import Pipeline, keypoint_names
from lite.skeletons import Skeleton, load_skeleton
from lite.structures import Frame, Record, Result
from lite.writers import RecordWriter, write_overlay
from lite.writers.label_maps import write_label_map
from lite.writers.overlays import write_picture
from lite.writers.records import LABEL_MAP_SUFFIX, describe_model

OVERLAY_PARTS = frozenset({"skeleton", "points", "boxes", "labels", "classes"})  # drawn on the picture itself
# Task -> what its network is called in result files.
KINDS = {"pose": "pose", "pose-bottom-up": "pose", "segment": "segmentation", "classify": "classification"}


class ResultWriter:
    """Writes the files of one picture: the JSON last, so where it is, the picture is finished."""

    def __init__(self, pipeline: Pipeline, config: InferConfig) -> None:
        specs = [task.spec for task in pipeline.tasks]
        self.skeleton = next((skeleton_of(spec) for spec in specs if spec.task.startswith("pose")), None)
        self.labels = next((spec for spec in specs if spec.task == "segment"), None)
        self.records = RecordWriter(self.skeleton, describe_networks(pipeline), self.labels)
        parts = config.parts & OVERLAY_PARTS
        self.style = Style(parts=parts, kpt_thr=config.kpt_thr, radius=config.radius, thickness=config.thickness)
        self.opacity = config.opacity

    def __call__(self, stem: Path, read: Frame | Record, result: Result) -> None:
        """Write a read's result to `stem` with the ending of each kind."""
        if isinstance(read, Frame):
            if self.style.parts:
                write_overlay(Path(f"{stem}.jpg"), self._drawn(read.pixels, result))
            for name, picture in result.pictures.items():
                write_picture(Path(f"{stem}.{name}.png"), picture)
        label_file = Path(f"{stem}{LABEL_MAP_SUFFIX}")
        if result.label_map is not None:
            write_label_map(label_file, result.label_map, self.labels.palette)
        elif self.labels is not None:
            label_file.unlink(missing_ok=True)  # of an earlier run: it would pass for this one's
        self.records.write(Path(f"{stem}.json"), result.record)

    def _drawn(self, pixels: np.ndarray, result: Result) -> np.ndarray:
        if "labels" in self.style.parts and result.label_map is not None:
            pixels = draw_labels(pixels, result.label_map, self.labels.palette, self.opacity)
        someone = result.record.people or result.record.classes  # drawing takes another copy of the picture
        return draw(pixels, result.record, self.skeleton, self.style) if someone else pixels


def describe_networks(pipeline: Pipeline) -> dict[str, Any]:
    """What results say about the networks that made them, by what they are for."""
    described = {KINDS[task.spec.task]: describe_model(task.spec) for task in pipeline.tasks}
    return {**described, "detector": pipeline.person and describe_model(pipeline.person.spec)}


def skeleton_of(spec: ArtifactSpec) -> Skeleton:
    """The network's skeleton; one without names and links where it names none."""
    if spec.skeleton is not None:
        return load_skeleton(spec.skeleton)
    names = keypoint_names(spec)
    count = len(names)
    return Skeleton(
        name=f"unnamed{count}",
        keypoint_names=names,
        flip_indices=tuple(range(count)),
        links=(),
        link_colors=(),
        keypoint_colors=((51, 153, 255),) * count,
        oks_sigmas=(),
        upper_body=(),
        lower_body=(),
        parts={},
    )
