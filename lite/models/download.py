"""`hpe-lite models download NAME` and `models verify NAME`: published weights fetched, checked, put in their place.

A file gets its final name only after its hash fits what is published and the safe reader has found the tensors of the
model in it; a wrong file is not kept.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lite.artifact import sha256_of
from lite.errors import CheckpointError, ConfigError, HpeLiteError, InputError, MissingExtraError, first_line
from lite.models.fetch import Progress, fetch
from lite.models.find import find_zoo_weights, look_for, zoo_row
from lite.models.places import Place
from lite.models.rows import ZooRow

if TYPE_CHECKING:
    from lite.models.download_config import DownloadConfig, VerifyConfig

TRUE = ("1", "on", "yes", "true")
ABSENT = {"RepositoryNotFoundError", "RevisionNotFoundError", "EntryNotFoundError"}  # errors of huggingface_hub


def download(config: "DownloadConfig") -> int:
    """Fetch, check and store the weights of a zoo row; weights that are there already are only checked.

    Returns:
        0, or 1 when the file could not be fetched or is not what it should be.

    Raises:
        ModelError: no such model, or one that cannot be downloaded.
        ConfigError: offline, and the file is not here.
        MissingExtraError: the file is on the hub and huggingface_hub is not installed.
    """
    row = zoo_row(config.name)
    place = _place(row)
    print(licence_text(row), flush=True)
    folder = Path(config.checkpoints or os.environ.get("HPE_LITE_CHECKPOINTS") or "checkpoints")
    target = folder / place.stored_name
    present = target if target.is_file() else look_for(place.stored_name, config.checkpoints)
    if present is not None and not config.force:
        return _report(row, present, "already there")
    offline = config.offline or os.environ.get("HF_HUB_OFFLINE", "").lower() in TRUE
    part = target.with_name(f".{target.name}.part")
    try:
        _fetch(row, place, part, offline, config)
        digest = verify_file(part, row, place.sha256)
        os.replace(part, target)
    except CheckpointError as problem:
        part.unlink(missing_ok=True)
        again = "; --force fetches it anew" if place.url is None else ""  # the hub's own cache still has it
        print(f"hpe-lite models download: {problem}; the file was not kept{again}", file=sys.stderr)
        return 1
    except InputError as problem:
        print(f"hpe-lite models download: {problem}", file=sys.stderr)
        return 1
    except OSError as problem:
        raise ConfigError(
            f"checkpoints: {folder} cannot be written ({problem.strerror}); name another folder"
        ) from None
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB, sha256 {digest}; tensors of {row.name}")
    return 0


def verify(config: "VerifyConfig") -> int:
    """Check the weights of a zoo row that are on this machine.

    Returns:
        0, or 1 when the file is not what it should be.

    Raises:
        ModelError: no such model, or its weights are not here.
    """
    row = zoo_row(config.name)
    return _report(row, find_zoo_weights(row, config.checkpoints), "verified")


def verify_file(path: Path, row: ZooRow, sha256: str = "") -> str:
    """SHA-256 of a file that has the tensors of a zoo row and the published hash, of which the start may suffice.

    Raises:
        CheckpointError: another hash, unreadable, or other tensors.
    """
    from lite.checkpoints import load_network

    digest = sha256_of(path)
    if not digest.startswith(sha256):
        raise CheckpointError(f"{path}: expected a SHA-256 that starts with {sha256}, found {digest[: len(sha256)]}")
    try:
        load_network(path, model=row.name)
    except HpeLiteError as problem:
        raise CheckpointError(str(problem)) from problem
    return digest


def licence_text(row: ZooRow) -> str:
    """The licence of a row's weights in one line; non-commercial ones say so."""
    if "-NC" in row.licence:
        return f"{row.name}: licence {row.licence}: NOT for commercial use"
    if row.licence.startswith("see"):
        return f"{row.name}: its authors name no licence beside the file; read {row.source} before using it"
    return f"{row.name}: licence {row.licence}"


def _place(row: ZooRow) -> Place:
    if row.place is not None:
        return row.place
    if row.default:
        raise InputError(f"{row.name}: comes with this package, there is nothing to download")
    raise InputError(
        f"{row.name}: expected a place it can be downloaded from, none is known; get its file from {row.source} and "
        "pass its path"
    )


def _report(row: ZooRow, path: Path, what: str) -> int:
    own = row.place is not None and path.name == Path(row.place.stored_name).name
    sha256 = row.place.sha256 if own else ""
    try:
        digest = verify_file(path, row, sha256)
    except CheckpointError as problem:
        print(f"hpe-lite models: {problem}; remove the file and download it again", file=sys.stderr)
        return 1
    known = "as published" if sha256 else "no published hash to compare with"
    print(f"{path}: {what}; tensors of {row.name}, sha256 {digest} ({known})")
    return 0


def _fetch(row: ZooRow, place: Place, part: Path, offline: bool, config: "DownloadConfig") -> None:
    """The whole file in `part`."""
    if place.accuracy:
        numbers = ", ".join(f"{metric} {value}" for metric, value in place.accuracy.items())
        print(f"from {place.text}, trained again by others than {row.source}: {numbers} as published")
    if place.url is None:
        for name in place.beside:
            _keep(_from_hub(place, name, offline, config.force), part.with_name(Path(name).name))
        _keep(_from_hub(place, place.file, offline, config.force), part)
        return
    if offline:
        raise ConfigError(f"offline: {place.stored_name} is not on this machine; run the command with a connection")
    resumed = part.is_file() and part.stat().st_size > 0
    part.parent.mkdir(parents=True, exist_ok=True)
    with _bar(place.stored_name, config.quiet) as progress:
        fetch(place.url, part, progress)
        if resumed and place.sha256 and not sha256_of(part).startswith(place.sha256):
            part.unlink()  # the start was of another file: once more from the beginning
            fetch(place.url, part, progress)


def _from_hub(place: Place, name: str, offline: bool, force: bool) -> Path:
    """A file of a repository in the hub's cache; huggingface_hub resumes, and shows its own progress.

    Raises:
        ConfigError: offline, and the file is not in the cache.
        InputError: no connection, no such file, or its terms were not accepted.
    """
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise MissingExtraError("huggingface_hub", "hub", f"downloading from {place.repository}") from None
    try:
        return Path(
            hf_hub_download(
                place.repository,
                name,
                revision=place.revision,
                local_files_only=offline,
                force_download=force and not offline,
            )
        )
    except Exception as problem:  # of many kinds, which moved between versions of the library
        kinds = {kind.__name__ for kind in type(problem).__mro__}
        where = f"huggingface.co/{place.repository}"
        if offline and kinds & {"LocalEntryNotFoundError", "OfflineModeIsEnabled", "FileNotFoundError"}:
            raise ConfigError(
                f"offline: {name} of {where} is not on this machine; run the command with a connection"
            ) from None
        if "GatedRepoError" in kinds:
            reason = "its authors ask for consent: accept the terms on that page, then run `hf auth login`"
        elif kinds & ABSENT and "LocalEntryNotFoundError" not in kinds:
            reason = (
                f"it has no {name} at {place.revision}; fetch the file by hand and put it in the checkpoints folder"
            )
        else:
            reason = f"the file did not come ({first_line(problem)[:200]}); run the same command again to go on"
        raise InputError(f"{where}: {reason}") from problem


def _keep(cached: Path, target: Path) -> None:
    """A file of the cache under a name of ours, without a second copy where the file system allows it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(cached.resolve(), target)
    except OSError:
        shutil.copyfile(cached, target)


@contextmanager
def _bar(title: str, quiet: bool) -> Iterator[Progress]:
    """A progress bar on a terminal, nothing elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns: tuple[Any, ...] = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bar("{task.description}", *columns, console=console) as bar:
        task = bar.add_task(title[:40], total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
