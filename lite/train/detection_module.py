"""The detection task: RTMDet on canvases with person boxes, tested by box AP."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lite.train.config import TrainConfig
from lite.train.detection_loss import detection_loss, flatten_levels
from lite.train.detection_score import average_precision
from lite.train.module import TrainingModule
from lite.train.networks import load_teacher, start_network


class DetectionModule(TrainingModule):
    """Class and box losses against person boxes; a teacher's scores where the background is unknown.

    A batch holds `pixels` (B, h, w, 3) uint8 RGB and, per picture, `boxes` (M, 4) of people and `ignored` (I, 4)
    regions, float32 canvas px.

    Starting from weights, batch norms keep the statistics they came with: a network with folded norms has none to
    learn, and few pictures would give poor ones.
    """

    def __init__(self, network: nn.Module, config: TrainConfig, teacher: nn.Module | None = None) -> None:
        super().__init__(network, config, teacher)
        self.person_label = network.spec.person_label

    def on_train_epoch_start(self) -> None:
        self.network.train()
        if self.config.init is not None:
            for module in self.network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

    @torch.no_grad()
    def teach(self, x: Tensor) -> Tensor:
        """(B, N, C) scores of the teacher."""
        return flatten_levels(self._teacher[0].to(x.device)(x)["cls"]).sigmoid()

    def loss(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        x = self.normalise(batch["pixels"])
        raw = self.network(x)
        people: Sequence[Tensor] = batch["boxes"]
        labels = [torch.full((len(boxes),), self.person_label, device=x.device) for boxes in people]
        taught = self.teach(x) if self._teacher else None
        weight = self.config.teacher.weight
        return detection_loss(
            raw["cls"], raw["reg"], self.codec.strides, people, labels, batch["ignored"], taught, weight
        )

    def validation_step(self, batch: Mapping[str, Any], index: int) -> None:
        raw = self.kept.eval()(self.normalise(batch["pixels"]))
        canvas_hw = tuple(batch["pixels"].shape[1:3])
        for i, (boxes, ignored) in enumerate(zip(batch["boxes"], batch["ignored"])):
            levels = [[level[i] for level in raw[name]] for name in ("cls", "reg")]
            found, scores, labels = self.codec.postprocess(*levels, canvas_hw)
            people = labels == self.person_label
            self._scores.append((found[people], scores[people], boxes.cpu().numpy(), ignored.cpu().numpy()))

    def on_validation_epoch_end(self) -> None:
        self.log("val_score", average_precision(self._scores), prog_bar=True)


def build_detection_module(config: TrainConfig) -> DetectionModule:
    """The detection task as the configuration wants it."""
    return DetectionModule(start_network(config), config, load_teacher(config))
