"""The settings of `models download` and `models verify`. Imports no torch, so that `--help` answers at once."""

from dataclasses import dataclass
from pathlib import Path

from lite.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class DownloadConfig:
    """`hpe-lite models download NAME`: published weights into the checkpoints folder.

    Attributes:
        name: of the model, as `hpe-lite models` lists it.
        checkpoints: folder for weights, created if need be; unset is HPE_LITE_CHECKPOINTS, then ./checkpoints.
        offline: use nothing but what is already on this machine (so does HF_HUB_OFFLINE=1).
        force: fetch the file again, even though it is there.
        quiet: no progress bar of a direct download; the licence is printed all the same.
    """

    name: str
    checkpoints: str | None = None
    offline: bool = False
    force: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.checkpoints is not None and Path(self.checkpoints).is_file():
            raise ConfigError(f"checkpoints: expected a folder, found a file at {self.checkpoints}")
        if self.offline and self.force:
            raise ConfigError("force: expected a connection to fetch the file again, found offline; leave one out")


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """`hpe-lite models verify NAME`: whether the weights on this machine are those of the model.

    Attributes:
        name: of the model, as `hpe-lite models` lists it.
        checkpoints: folder searched first for weights.
    """

    name: str
    checkpoints: str | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.checkpoints is not None and not Path(self.checkpoints).is_dir():
            raise ConfigError(f"checkpoints: expected a folder, found none at {self.checkpoints}")


def _check_name(name: str) -> None:
    if not name:
        raise ConfigError("name: expected a model of `hpe-lite models`, found nothing")
