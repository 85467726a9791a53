"""The settings of `hpe-lite eval`; imports neither torch nor OpenCV nor pycocotools, so that `--help` is quick."""

from dataclasses import dataclass

from lite.config import DetectorConfig, DeviceConfig
from lite.errors import ConfigError

BOX_SOURCES = ("gt", "detector")


@dataclass(frozen=True, kw_only=True)
class EvalConfig(DeviceConfig, DetectorConfig):
    """`hpe-lite eval`: a model, or results that exist already, against annotated pictures.

    Attributes:
        annotations: COCO keypoint annotation file.
        images: folder or uncompressed tar file with its pictures; not needed with predictions.
        model: zoo name, checkpoint or artifact of the keypoint network; unset takes the built-in one.
        boxes: gt (the annotated boxes), detector (end to end; bbox_thr applies), or a COCO detection file (.json; all
            of its boxes count).
        flip_test: average with the mirrored crop; unset follows the model.
        predictions: score these instead of running anything: a COCO results file, or the output folder of infer.
        skeleton: keypoints of the predictions; a model brings its own.
        output: folder for results.json and metrics.json.
        limit: only the first so many pictures; unset takes all.
        vis_thr: keypoints at or below this score do not count in a person's score.
        oks_thr: of two people more alike than this the lower-scored one is left out.
        quiet: no progress and no table.
    """

    annotations: str
    images: str | None = None
    model: str | None = None
    boxes: str = "gt"
    flip_test: bool | None = None
    predictions: str | None = None
    skeleton: str = "coco17"
    output: str = "runs/eval"
    limit: int | None = None
    vis_thr: float = 0.2
    oks_thr: float = 0.9
    quiet: bool = False

    def __post_init__(self) -> None:
        for part in (DeviceConfig, DetectorConfig):
            part.__post_init__(self)
        if not self.output:
            raise ConfigError("output: expected a folder for results.json and metrics.json, found nothing")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit: expected at least 1 picture, found {self.limit}")
        for key in ("vis_thr", "oks_thr"):
            if not 0 <= getattr(self, key) <= 1:
                raise ConfigError(f"{key}: expected a number from 0 to 1, found {getattr(self, key)}")
        if self.predictions and self.model:
            raise ConfigError("predictions: expected either predictions or model, found both; leave one out")
        if not self.predictions and not self.images:
            raise ConfigError("images: expected the folder or tar file with the annotated pictures, found nothing")
        if self.boxes not in BOX_SOURCES and not self.boxes.endswith(".json"):
            raise ConfigError(f"boxes: expected gt, detector or a detection file (.json), found {self.boxes!r}")
