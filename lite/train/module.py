"""What every training run shares (`TrainingModule`), and the pose task on top of it (`PoseModule`)."""

from collections.abc import Mapping

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lite.codecs import build_codec
from lite.codecs.flip import flip_average
from lite.errors import ConfigError
from lite.skeletons import load_skeleton
from lite.train.config import TrainConfig
from lite.train.losses import keypoint_mse, keypoint_ohkm
from lite.train.networks import load_teacher, start_network
from lite.train.optim import build_optimizer


class TrainingModule(pl.LightningModule):
    """A network in training and the running average of its weights.

    Subclasses give `loss` and `score`; the average is what is tested and kept.

    Args:
        network: with `.spec`.
        config: of the run.
        teacher: a network to learn from beside the labels.
    """

    def __init__(self, network: nn.Module, config: TrainConfig, teacher: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.network = network
        self.codec = build_codec(network.spec.codec)
        for name, values in (("mean", network.spec.mean), ("std", network.spec.std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        self._teacher = [teacher.eval().requires_grad_(False)] if teacher is not None else []  # out of checkpoints
        self.average = None
        if config.ema:
            self.average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True)
            self.average.requires_grad_(False)

    @property
    def kept(self) -> nn.Module:
        """The network whose weights are tested and kept; it carries `.spec`."""
        return self.network if self.average is None else self.average.module

    def normalise(self, pixels: Tensor) -> Tensor:
        """(B, h, w, 3) uint8 RGB -> (B, 3, h, w) float32 as the network takes it."""
        x = pixels.permute(0, 3, 1, 2).float()
        if self.network.spec.color_order == "BGR":
            x = x.flip(1)
        return ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def loss(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses of a batch by name; `loss` is minimised, the others are logged."""
        raise NotImplementedError

    def score(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """(n,) quality of each validation entry, higher is better; their mean is `val_score`."""
        raise NotImplementedError

    def training_step(self, batch: Mapping[str, Tensor], index: int) -> Tensor:
        losses = self.loss(batch)
        self.log_dict(losses, prog_bar=True, batch_size=self.config.batch_size)
        self.log("lr", self.optimizers().param_groups[0]["lr"])
        return losses["loss"]

    def on_train_batch_end(self, *_: object) -> None:
        if self.average is not None:
            self.average.update_parameters(self.network)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Adds how far the running epoch has come."""
        batches = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        checkpoint["done"] = (self.trainer.current_epoch, batches * self.config.batch_size)

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Lets the sampler leave out what the interrupted epoch has seen.

        Raises:
            ConfigError: it is the checkpoint of another network, or of one with or without an average.
        """
        stored, own = checkpoint["state_dict"], self.state_dict()
        if {k: v.shape for k, v in stored.items()} != {k: v.shape for k, v in own.items()}:
            raise ConfigError(
                f"output: expected a run of {self.config.model} with ema {self.config.ema}, found the checkpoint of "
                "another; give another --output, or --resume never to begin anew"
            )
        self.trainer.datamodule.sampler.done = tuple(checkpoint["done"])

    def on_validation_epoch_start(self) -> None:
        self._scores: list[Tensor] = []

    def validation_step(self, batch: Mapping[str, Tensor], index: int) -> None:
        self._scores.append(self.score(self.kept.eval(), batch).float().cpu())

    def on_validation_epoch_end(self) -> None:
        scores = torch.cat(self._scores) if self._scores else torch.zeros(0)
        self.log("val_score", scores.mean() if len(scores) else 0.0, prog_bar=True)

    def configure_optimizers(self) -> dict:
        steps = int(self.trainer.estimated_stepping_batches)
        optimizer, schedule = build_optimizer(self.network, self.config.optim, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class PoseModule(TrainingModule):
    """Heatmaps against labels, and against a teacher's heatmaps where one is given.

    A batch holds `pixels` (B, h, w, 3) uint8 RGB, `keypoints` (B, K, 2) px of the crop, `weights` (B, K) and
    `oks_scale` (B,) px^2: the area of the person in crop pixels.
    """

    def __init__(self, network: nn.Module, config: TrainConfig, teacher: nn.Module | None = None) -> None:
        super().__init__(network, config, teacher)
        spec = network.spec
        self.skeleton = load_skeleton(spec.skeleton)
        # `udp_affine` spans input - 1 px, the decoder gives a grid of input px; labels are on the first.
        height, width = spec.input_hw
        span = (width - 1, height - 1) if spec.crop.affine == "udp" else (width, height)
        self.register_buffer("to_label", torch.tensor(span) / torch.tensor([width, height]), persistent=False)
        self.register_buffer("oks_sigmas", torch.tensor(self.skeleton.oks_sigmas), persistent=False)

    @torch.no_grad()
    def teach(self, x: Tensor) -> Tensor:
        """(B, K, H, W) heatmaps of the teacher."""
        teacher = self._teacher[0].to(x.device)
        heatmaps = teacher(x)["heatmaps"].float()
        if self.config.teacher.flip_test:
            mirrored = teacher(x.flip(3))["heatmaps"].float()
            shift = teacher.spec.crop.affine == "classic"
            heatmaps = flip_average(heatmaps, mirrored, self.skeleton.flip_indices, shift)
        return heatmaps

    def loss(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        x = self.normalise(batch["pixels"])
        heatmaps = self.network(x)["heatmaps"].float()
        target, weights = self.codec.encode(batch["keypoints"], batch["weights"])
        if self.config.loss == "ohkm":
            label_loss = keypoint_ohkm(heatmaps, target, weights, self.config.ohkm_top)
        else:
            label_loss = keypoint_mse(heatmaps, target, weights)
        if not self._teacher:
            return {"loss": label_loss}
        teacher_loss = (heatmaps - self.teach(x)).square().mean()
        total = label_loss + self.config.teacher.weight * teacher_loss
        return {"loss": total, "label_loss": label_loss.detach(), "teacher_loss": teacher_loss}

    def score(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """(B,) object keypoint similarity."""
        heatmaps = network(self.normalise(batch["pixels"]))["heatmaps"].float()
        found, _ = self.codec.decode(heatmaps)
        distance = (found * self.to_label - batch["keypoints"]).square().sum(2)  # (B, K)
        similarity = torch.exp(-distance / (2 * batch["oks_scale"][:, None] * (2 * self.oks_sigmas).square()))
        labelled = (batch["weights"] > 0).float()
        return (similarity * labelled).sum(1) / labelled.sum(1).clamp(min=1)


def build_pose_module(config: TrainConfig) -> PoseModule:
    """The pose task as the configuration wants it."""
    return PoseModule(start_network(config), config, load_teacher(config))
