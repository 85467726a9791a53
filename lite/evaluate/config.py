"""The settings of `hpe-lite eval`; imports neither torch nor OpenCV nor pycocotools, so that `--help` is quick."""

from dataclasses import dataclass
from typing import Literal

from lite.config import DetectorConfig, DeviceConfig, TaskConfig
from lite.errors import ConfigError

BOX_SOURCES = ("gt", "detector")
DATA_SET_NAMES = ("auto", "coco", "wholebody", "crowdpose", "ochuman", "aic", "mpii", "goliath308")
PROTOCOLS = ("all", "annotated", "predicted")
PERSON_SCORES = ("auto", "box-times-keypoints", "keypoints", "given")


@dataclass(frozen=True, kw_only=True)
class EvalConfig(TaskConfig, DeviceConfig, DetectorConfig):
    """`hpe-lite eval`: a model, or results that exist already, against annotated pictures.

    Attributes:
        annotations: of keypoints the annotation file of any data set below (.json); of classes a list of pictures and
            their classes, unset where every class has a folder; of labels a folder of label maps, unset where they
            stand beside the pictures (x_seg.png).
        images: folder or uncompressed tar file with the pictures; with predictions only needed for worst.
        dataset: whose rules count; auto tells it by the file's content (ochuman is scored as coco).
        heads: MPII's head sizes, mpii_gt_val.mat or a .json or .csv of head boxes; unset looks beside the annotations.
        model: zoo name, checkpoint or artifact of the keypoint network; unset takes the built-in one.
        boxes: gt (the annotated boxes), detector (end to end; bbox_thr applies), or a COCO detection file (.json; all
            of its boxes count).
        inclusive_boxes: annotated boxes end at their last pixel, one less wide and high, as in the original evaluation
            of ViTPose.
        flip_test: average with the mirrored crop; unset follows the model.
        predictions: score these instead of running anything: a results file of the server's form, or the output folder
            of infer.
        skeleton: keypoints of the predictions; unset takes the data set's; a model brings its own.
        output: folder for results.json and metrics.json.
        limit: only the first so many pictures; unset takes all.
        protocol: pictures that count: all, only annotated ones (someone is annotated), or only those with a prediction
            (as HigherHRNet's reimplementation was measured).
        person_score: box-times-keypoints (box score times the mean keypoint score), keypoints (the mean alone) or given
            (as the network gives it); auto takes given for networks without boxes, else the first.
        vis_thr: keypoints at or below this score do not count in that mean.
        oks_thr: of two people more alike than this the lower-scored one is left out; unset takes 0.9, and 1 (nobody)
            for networks without boxes.
        soft_nms: lower the rank of people who are alike instead, and keep the best max_scored.
        max_scored: people of a picture that are scored, best first.
        worst: draw so many pictures with the lowest mean OKS (of MPII: PCKh), truth beside prediction, into
            output/worst, with worst.json.
        quiet: no progress and no table.
    """

    annotations: str | None = None
    images: str | None = None
    dataset: Literal["auto", "coco", "wholebody", "crowdpose", "ochuman", "aic", "mpii", "goliath308"] = "auto"
    heads: str | None = None
    model: str | None = None
    boxes: str = "gt"
    inclusive_boxes: bool = False
    flip_test: bool | None = None
    predictions: str | None = None
    skeleton: str | None = None
    output: str = "runs/eval"
    limit: int | None = None
    protocol: Literal["all", "annotated", "predicted"] = "all"
    person_score: Literal["auto", "box-times-keypoints", "keypoints", "given"] = "auto"
    vis_thr: float = 0.2
    oks_thr: float | None = None
    soft_nms: bool = False
    max_scored: int = 20
    worst: int = 0
    quiet: bool = False

    def __post_init__(self) -> None:
        for part in (TaskConfig, DeviceConfig, DetectorConfig):
            part.__post_init__(self)
        if not self.output:
            raise ConfigError("output: expected a folder for results.json and metrics.json, found nothing")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit: expected at least 1 picture, found {self.limit}")
        for key in ("vis_thr", "oks_thr"):
            value = getattr(self, key)
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"{key}: expected a number from 0 to 1, found {value}")
        if self.soft_nms and self.oks_thr == 0:
            raise ConfigError("oks_thr: expected a number above 0 with soft_nms, found 0")
        for key, least in (("max_scored", 1), ("worst", 0)):
            if getattr(self, key) < least:
                raise ConfigError(f"{key}: expected at least {least}, found {getattr(self, key)}")
        choices = {"dataset": DATA_SET_NAMES, "protocol": PROTOCOLS, "person_score": PERSON_SCORES}
        for key, allowed in choices.items():
            if getattr(self, key) not in allowed:
                raise ConfigError(f"{key}: expected one of {', '.join(allowed)}, found {getattr(self, key)!r}")
        if self.predictions and not self.annotations:
            raise ConfigError("annotations: expected the annotation file that the predictions belong to, found nothing")
        if self.predictions and self.model:
            raise ConfigError("predictions: expected either predictions or model, found both; leave one out")
        if self.worst and not self.images:
            raise ConfigError("images: expected the folder or tar file with the pictures to draw on, found nothing")
        if not self.predictions and not self.images:
            raise ConfigError("images: expected the folder or tar file with the annotated pictures, found nothing")
        if self.boxes not in BOX_SOURCES and not self.boxes.endswith(".json"):
            raise ConfigError(f"boxes: expected gt, detector or a detection file (.json), found {self.boxes!r}")

    @property
    def models(self) -> list[str]:
        """The model as a list; empty for the built-in one."""
        return [self.model] if self.model else []
