"""`train(config)`: one run from a recipe to weights, resumable at any moment.

The output folder receives `last.ckpt` (everything needed to go on), `best.ckpt` (best held-out score),
`log/metrics.csv`, `config.json`, and in the end `<model>.safetensors`: weights with their spec, ready for `export`,
`infer` and `eval`.
"""

import dataclasses
import datetime
import json
import logging
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lite.errors import InputError, MissingExtraError
from lite.train.config import TrainConfig

if TYPE_CHECKING:
    import lightning.pytorch as pl


def _pose(config: TrainConfig) -> "tuple[pl.LightningModule, pl.LightningDataModule]":
    from lite.train.module import build_pose_module
    from lite.train.pose_data import build_pose_data

    return build_pose_module(config), build_pose_data(config)


def _detect(config: TrainConfig) -> "tuple[pl.LightningModule, pl.LightningDataModule]":
    from lite.train.detection_data import build_detection_data
    from lite.train.detection_module import build_detection_module

    return build_detection_module(config), build_detection_data(config)


# task -> builder of (TrainingModule, data module); both are imported only when the task is asked for.
TASKS: dict[str, Callable] = {"pose": _pose, "detect": _detect}


def train(config: TrainConfig) -> int:
    """Train, and write the weights.

    Returns:
        0 when all epochs are done.

    Raises:
        MissingExtraError: Lightning is not installed.
        ConfigError, InputError, AnnotationError, ModelError: something in the recipe cannot be used.
    """
    try:
        import lightning.pytorch as pl
    except ImportError:
        raise MissingExtraError("lightning", "train", "training") from None
    import torch

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # its remarks on devices and products
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    pl.seed_everything(config.seed, verbose=False)
    folder = Path(config.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n", encoding="utf-8")
    except OSError as problem:
        raise InputError(
            f"output: expected a folder that can be written, found {folder} ({problem.strerror})"
        ) from None
    module, data = TASKS[config.task](config)
    last = folder / "last.ckpt"
    resume = last if config.resume == "auto" and last.is_file() else None
    if resume and not zipfile.is_zipfile(resume):
        raise InputError(f"{resume}: expected a checkpoint to go on from, found a damaged file; pass --resume never")
    print(f"{config.model}: {len(data.train_set)} to learn from, {len(data.validation_set)} held out, in {folder}")
    if resume:
        print(f"going on from {resume}; --resume never starts again")
    trainer = build_trainer(config, folder, validates=len(data.validation_set) > 0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")  # advice on worker counts and log intervals
        try:
            trainer.fit(module, data, ckpt_path=resume, weights_only=True if resume else None)
        except SystemExit:  # Lightning's answer to Ctrl+C
            print(f"interrupted; the same command goes on from {last}")
            return 1
    print(f"wrote {write_weights(config, folder)}")
    return 0


def build_trainer(config: TrainConfig, folder: Path, *, validates: bool) -> "pl.Trainer":
    """Lightning's trainer with our checkpoints and curves."""
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
    from lightning.pytorch.loggers import CSVLogger

    from lite.train.checkpoint_io import ReplacingCheckpointIO

    newest = ModelCheckpoint(
        folder,
        filename="last",
        save_top_k=1,
        enable_version_counter=False,
        train_time_interval=datetime.timedelta(minutes=config.save_minutes),
    )
    at_epoch_end = ModelCheckpoint(
        folder,
        filename="last",
        save_top_k=1,
        enable_version_counter=False,
        every_n_epochs=1,
        save_on_train_epoch_end=True,
    )
    callbacks = [newest, at_epoch_end]
    if validates:
        callbacks.append(
            ModelCheckpoint(
                folder, filename="best", monitor="val_score", mode="max", save_top_k=1, enable_version_counter=False
            )
        )
    if config.progress:
        callbacks.append(TQDMProgressBar(refresh_rate=10))
    return pl.Trainer(
        max_epochs=config.epochs,
        accelerator={"auto": "auto", "cpu": "cpu", "cuda": "gpu"}[config.device],
        devices=1,
        precision="bf16-mixed" if config.precision == "bf16" else "32-true",
        gradient_clip_val=config.optim.clip_norm or None,
        limit_train_batches=config.limit if config.limit is not None else 1.0,
        limit_val_batches=config.limit if config.limit is not None else 1.0,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        plugins=[ReplacingCheckpointIO()],
        logger=CSVLogger(folder, name="", version="log"),
        log_every_n_steps=config.log_steps,
        enable_progress_bar=config.progress,
        enable_model_summary=False,
        default_root_dir=folder,
    )


def write_weights(config: TrainConfig, folder: Path) -> Path:
    """The best weights of a finished run (the last where nothing was held out) as safetensors with their spec."""
    import torch

    from lite.checkpoints import save_network
    from lite.models.zoo import ZOO

    best = folder / "best.ckpt"
    stored = torch.load(best if best.is_file() else folder / "last.ckpt", map_location="cpu", weights_only=True)
    prefix = "average.module." if config.ema else "network."
    state = {k.removeprefix(prefix): v for k, v in stored["state_dict"].items() if k.startswith(prefix)}
    network = ZOO[config.model].build()
    network.load_state_dict(state, strict=True)
    path = folder / f"{config.model}.safetensors"
    save_network(network, path)
    return path
