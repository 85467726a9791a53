"""AOTInductor packages: a `.pt2` file that holds machine code for one kind of device and one version of torch.

Machine code does what it likes, so a package is opened only when its hash is in the user's trust file, or with
`--trust`. What is loaded is a private copy, hashed while it was made: nobody can change it after it was judged. The
code checks neither the size of its input nor the batch, so the package carries its description, which the JSON repeats.
"""

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from lite.artifact import ArtifactSpec
from lite.backends.artifact_file import SPEC_KEY, check_hash, check_inside
from lite.backends.devices import check_built_for
from lite.errors import ArtifactError, UnsafeFileError, first_line
from lite.trust import is_trusted


def is_compiled(file: IO[bytes]) -> bool:
    """Whether an open file is an AOTInductor package; the position is put back to the start."""
    try:
        with zipfile.ZipFile(file) as archive:
            return any("data/aotinductor/" in name for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False  # the vetting says what is wrong with it
    finally:
        file.seek(0)


def load_package(file: IO[bytes], spec: ArtifactSpec, path: Path, device: torch.device, trust: bool) -> Any:
    """The function in a package: (B, h, w, 3) uint8 on `device` in, dict of tensors out.

    Args:
        file: the package, open.
        path: for messages.
        trust: open it although this installation did not build it.

    Raises:
        ArtifactError: changed, made for another torch or device, or not what its JSON says.
        UnsafeFileError: not built by this installation, and not trusted.
    """
    written = spec.versions.get("torch")
    if written != torch.__version__:
        raise ArtifactError(
            f"{path}: compiled with torch {written}, this is torch {torch.__version__}, and machine code needs the "
            "same one; compile it again here, or export it without --compile"
        )
    if spec.device == "any":
        raise ArtifactError(f"{path}: its JSON says it runs anywhere, the file holds machine code; export it again")
    check_built_for(spec, device, path)
    with _private_copy(file, spec, path) as copy:
        if not trust and not is_trusted(spec.sha256):
            raise UnsafeFileError(
                f"{path}: a compiled package holds machine code and this installation did not build it; compile it "
                "again here, or pass --trust if you know who made it"
            )
        # Not `torch._inductor.aoti_load_package`: it runs the compiler to compare processors, and unpickles programs
        # that lie in the package as well.
        from torch.export.pt2_archive._package import AOTICompiledModel

        try:
            loader = torch._C._aoti.AOTIModelPackageLoader(
                str(copy), "model", device.type == "cuda", 1, -1 if device.index is None else device.index
            )
            module = AOTICompiledModel(loader)
            found = module.get_metadata().get(SPEC_KEY)
        except Exception as problem:  # torch raises several kinds; all of them mean the file is not usable
            raise ArtifactError(
                f"{path}: torch cannot load it ({first_line(problem)}); export the model again"
            ) from None
    check_inside(found, spec, path)
    return module


@contextmanager
def _private_copy(file: IO[bytes], spec: ArtifactSpec, path: Path) -> Iterator[Path]:
    """A copy in a folder of the user's own that has the hash of the JSON; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="hpe-lite-") as folder:
        copy = Path(folder) / "package.pt2"
        with copy.open("w+b") as target:
            file.seek(0)
            shutil.copyfileobj(file, target, 2**20)
            target.flush()
            check_hash(target, spec, path)
        yield copy
