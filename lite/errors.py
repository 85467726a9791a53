"""Every error a user can cause. The command line prints the message without traceback and exits 2.

HpeLiteError
+-- ConfigError       a flag or YAML value is wrong; the message names the key to change
+-- InputError        nothing to read, or a picture, list or annotation file that cannot be read
+-- ModelError        no such model, checkpoint or artifact, or two that do not fit together
|   +-- CheckpointError   a weights file that is damaged, foreign, or does not match its network
|   +-- ArtifactError     an exported file that is damaged, changed, or not for this machine
|   +-- UnsafeFileError   a file that could run code and was not trusted
|   +-- DeviceMemoryError   more crops at once than the device's memory holds
+-- AnnotationError   a ground-truth or prediction file that breaks its format
+-- MissingExtraError an optional dependency is not installed; the message is the command that installs it

A message says what was expected, what was found, and what to do.
"""


class HpeLiteError(Exception):
    """A mistake the user can mend; the message is one clear sentence (or a short list under one)."""


class ConfigError(HpeLiteError):
    """A setting has a value that cannot be used."""


class InputError(HpeLiteError):
    """Input that does not exist or cannot be read."""


class ModelError(HpeLiteError):
    """A model that is not known or cannot be used here."""


class CheckpointError(ModelError):
    """A weights file that cannot be read or does not match its network."""


class ArtifactError(ModelError):
    """An exported file that cannot be used on this machine or does not match its JSON."""


class UnsafeFileError(ModelError):
    """A file that could run code when opened."""


class DeviceMemoryError(ModelError):
    """A batch that the device's memory does not hold; a smaller one may fit."""


class AnnotationError(HpeLiteError):
    """A ground-truth or prediction file that breaks its format."""


class MissingExtraError(HpeLiteError):
    """An optional dependency that the asked-for feature needs."""

    def __init__(self, package: str, extra: str, feature: str) -> None:
        super().__init__(f"{feature} needs {package}, which is not installed; run: pip install 'hpe-lite[{extra}]'")


def first_line(problem: BaseException) -> str:
    """What a library's error says in its first line, the name of its kind where it says nothing."""
    return (str(problem).splitlines() or [type(problem).__name__])[0]
