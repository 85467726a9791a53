"""Where an artifact goes: checked before the work starts, and all of its files moved there together or none."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lite.artifact import read_spec, spec_path
from lite.errors import ArtifactError, ConfigError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NEARLY_NOTHING = 2**20  # bytes free


def check_place(output: Path, overwrite: bool) -> None:
    """Make the folder of `output` if need be, and see that files can be written there.

    Raises:
        ConfigError: something is in the way, or the folder cannot be written.
    """
    try:
        _check_free(output, overwrite)
        _check_free(spec_path(output), overwrite)
        output.parent.mkdir(parents=True, exist_ok=True)
        # The longest name there will be, of the description while it is written.
        tempfile.NamedTemporaryFile(prefix=f".{spec_path(output).name}.", suffix=".part", dir=output.parent).close()
    except OSError as problem:
        raise ConfigError(
            f"output: expected a folder that can be written, found {output.parent} ({problem.strerror}); give another "
            "--output"
        ) from None


@contextmanager
def workshop(output: Path) -> Iterator[Path]:
    """A folder beside `output` to make its files in; gone afterwards, whatever happens.

    Raises:
        ConfigError: the disk is full.
    """
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder:
        try:
            yield Path(folder)
        except (OSError, RuntimeError) as problem:  # torch reports a failed write as a RuntimeError
            full = isinstance(problem, OSError) and problem.errno in FULL
            if full or shutil.disk_usage(folder).free < NEARLY_NOTHING:
                raise ConfigError(
                    f"output: expected room for {output.name} in {output.parent}, found the disk full; "
                    "free some space or give another --output"
                ) from problem
            raise


def move_in(folder: Path, names: list[str], output: Path, overwrite: bool) -> None:
    """Move the files of an artifact from its workshop beside `output`; after a failure all is as it was before.

    What an overwritten artifact had besides is taken away. Its description goes first and the new one comes last, so
    that an interruption at any moment leaves files that are refused, never a mixture that is believed.

    Args:
        folder: the workshop.
        names: files in it; the last one is the description.

    Raises:
        ConfigError: something is in the way.
    """
    for name in names:
        _check_free(output.parent / name, overwrite)
    old = [name for name in _files_of(output) if (output.parent / name).is_file()]
    away = folder / "before"
    away.mkdir()
    done: list[tuple[Path, Path]] = []
    try:
        for name in dict.fromkeys([names[-1], *old, *names]):
            if (output.parent / name).exists():
                done.append(_moved(output.parent / name, away / name))
        for name in names:
            done.append(_moved(folder / name, output.parent / name))
    except BaseException:
        for source, target in reversed(done):
            os.replace(target, source)
        raise


def _moved(source: Path, target: Path) -> tuple[Path, Path]:
    os.replace(source, target)
    return source, target


def _files_of(output: Path) -> list[str]:
    """Names of an artifact's further files, as its description has them; none where there is no readable one."""
    try:
        companions = read_spec(output).companions
    except ArtifactError:
        return []
    return [name for name in companions if Path(name).name == name and name.startswith(output.stem)]


def _check_free(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise ConfigError(f"output: expected a file name, found the folder {path}; give another --output")
    if path.exists() and not overwrite:
        raise ConfigError(f"output: {path} is there already; give another --output or pass --overwrite")
