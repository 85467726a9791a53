"""What every backend checks of an exported file before it runs: request, versions, hashes, what it says of itself."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lite.artifact import ArtifactSpec, OutputSpec, sha256_of, spec_from_dict
from lite.errors import ArtifactError, ConfigError
from lite.network import any_size

SPEC_KEY = "hpe_lite_spec"  # in the file: the spec as JSON, but for what is only known afterwards
KNOWN_AFTERWARDS = ("sha256", "companions", "check", "versions")


def check_request(spec: ArtifactSpec, path: Path, formats: tuple[str, ...], mode: str, flip_test: bool | None) -> None:
    """What is asked for must be what the JSON says.

    Raises:
        ArtifactError: the JSON describes a file of another format.
        ConfigError: another mode, or a flip test that is not in the file.
    """
    if spec.format not in formats:
        raise ArtifactError(
            f"{path}: expected format {' or '.join(formats)} in its JSON, found {spec.format}; export the model again"
        )
    if mode not in ("auto", spec.mode):
        raise ConfigError(
            f"mode: {path.name} was exported as {spec.mode}, asked for {mode}; leave --mode out or export again"
        )
    if flip_test not in (None, spec.flip_test):
        have, want = ("with", "without") if spec.flip_test else ("without", "with")
        raise ConfigError(f"flip_test: {path.name} was exported {have} it, asked for {want}; export it again")


def check_version(spec: ArtifactSpec, path: Path, library: str, here: str) -> None:
    """A file is read by the library that wrote it or a newer one.

    Raises:
        ArtifactError: it was written by a newer one.
    """
    written = spec.versions.get(library, "0")
    if release(written) > release(here):
        raise ArtifactError(
            f"{path}: written by {library} {written}, this is {library} {here}; update {library} or export it again"
        )


def release(version: str) -> tuple[int, int]:
    """(major, minor) of "2.13.0+cpu"; "0" counts as oldest, anything else as newest, so that it is refused."""
    if version == "0":
        return (0, 0)
    try:
        major, minor = version.split(".")[:2]
        return int(major), int(minor)
    except ValueError:
        return (10**6, 0)


@contextmanager
def open_file(path: Path) -> Iterator[IO[bytes]]:
    """The file, open for reading.

    Raises:
        ArtifactError: it cannot be opened, or read inside.
    """
    try:
        with path.open("rb") as file:
            yield file
    except OSError as problem:
        raise ArtifactError(
            f"{path}: cannot be read ({problem.strerror}); check the file and its permissions"
        ) from None


def check_hash(file: IO[bytes], spec: ArtifactSpec, path: Path) -> None:
    """The bytes are those the JSON was written for; the position is put back to the start.

    Raises:
        ArtifactError: they are not.
    """
    file.seek(0)
    if hashlib.file_digest(file, "sha256").hexdigest() != spec.sha256:
        raise _changed(path, path)
    file.seek(0)


def check_companions(spec: ArtifactSpec, path: Path) -> None:
    """The other files of the artifact (OpenVINO's weights, ONNX external data) lie beside it, unchanged.

    Raises:
        ArtifactError: one is missing, changed, or not a plain name in the artifact's own folder.
    """
    for name, sha256 in spec.companions.items():
        companion = path.parent / name
        if Path(name).name != name or name in ("", ".", ".."):
            raise ArtifactError(f"{path}: expected a file beside it, found the name {name!r}; export the model again")
        if companion.is_symlink():
            raise ArtifactError(f"{path}: expected its other file {name}, found a link; copy the file itself there")
        if not companion.is_file():
            raise ArtifactError(f"{path}: expected its other file {name} beside it, found none; copy all of its files")
        if sha256_of(companion) != sha256:
            raise _changed(companion, path)


def embedded_spec(spec: ArtifactSpec) -> dict[str, Any]:
    """What the file says of itself: the spec without what is known only when the file is complete."""
    return {name: value for name, value in spec.to_dict().items() if name not in KNOWN_AFTERWARDS}


def check_inside(text: str | None, spec: ArtifactSpec, path: Path) -> None:
    """The JSON beside a file repeats what the file, whose hash is known, says of itself.

    Args:
        text: `embedded_spec` as JSON, as the file has it; None where it has none.

    Raises:
        ArtifactError: they disagree, or the file says nothing.
    """
    try:
        inside = embedded_spec(
            spec_from_dict(json.loads(text or ""), path.name)
        )  # fields it is too old for: as not set
    except (ArtifactError, ValueError, RecursionError):
        raise ArtifactError(
            f"{path}: expected the model's description inside, found none; export the model again"
        ) from None
    beside = embedded_spec(spec)
    wrong = sorted(name for name in beside if inside[name] != beside[name])
    if wrong:
        raise ArtifactError(
            f"{path}: its JSON and its own description disagree about {', '.join(wrong)[:80]}; export the model again"
        )


def input_sides(spec: ArtifactSpec) -> tuple[int | None, ...]:
    """The shape of the input without the batch; None for a side that varies."""
    return (None, None, 3) if any_size(spec) else (*spec.input_hw, 3)


def output_sides(output: OutputSpec) -> tuple[int | None, ...]:
    """The same of an output."""
    return tuple(side if isinstance(side, int) else None for side in output.shape[1:])


def check_same(found: dict[str, Any], wanted: dict[str, Any], path: Path) -> None:
    """What a file has is what its JSON says, part by part.

    Args:
        found: of the file, with at least the parts of `wanted`. wanted: of the JSON.

    Raises:
        ArtifactError: a part differs.
    """
    for part, value in wanted.items():
        if found[part] != value:
            raise ArtifactError(
                f"{path}: its JSON says {part} {value}, the file has {found[part]}; export the model again"
            )


def _changed(file: Path, path: Path) -> ArtifactError:
    return ArtifactError(
        f"{file}: its sha256 is not the one in {path.name}.json, so it was changed or damaged; "
        "copy all of its files again or export the model again"
    )
