"""TensorRT engine files built before, by what they were built from and for.

A build takes minutes and gives the same file for the same graph, GPU, TensorRT and batches. Engine files and
TensorRT's timing caches hold machine code, so one is taken from the cache only when its hash is in the user's trust
file; any other file that lies there is built again and replaced.
"""

import contextlib
import hashlib
import json
import os
import re
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from lite.errors import HpeLiteError
from lite.trust import is_trusted, remember


@dataclass(frozen=True, kw_only=True)
class Batches:
    """The optimisation profile: batches the file accepts, and the one its kernels are chosen for."""

    least: int
    best: int
    most: int


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything an engine file depends on.

    Attributes:
        graph_sha256: of the ONNX file handed to TensorRT, weights and all.
        device: "cuda sm_90 NVIDIA H200".
        tensorrt: its version.
        batches: the optimisation profile.
        mode: precision of the network, for people; the graph holds it too.
        workspace: bytes of scratch memory a kernel may ask for, which decides which kernels are tried.
    """

    graph_sha256: str
    device: str
    tensorrt: str
    batches: Batches
    mode: str
    workspace: int

    def key(self) -> str:
        """64 hexadecimal digits, other ones for any other recipe."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def cache_folder() -> Path:
    """hpe-lite/tensorrt in XDG_CACHE_HOME or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "hpe-lite" / "tensorrt"


def timing_name(device: str, tensorrt: str) -> str:
    """File name of the kernel timings of a GPU: "cuda-sm_90-NVIDIA-H200_10.13.3.timing"."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", f"{device}_{tensorrt}") + ".timing"


def fetch(name: str) -> bytes | None:
    """A file of the cache that this installation built; None when there is none."""
    try:
        data = (cache_folder() / name).read_bytes()
    except OSError:
        return None
    return data if is_trusted(hashlib.sha256(data).hexdigest()) else None


def keep(name: str, data: bytes) -> None:
    """Put a file that was just built into the cache, complete or not at all, and remember its hash.

    A cache or trust file that cannot be written (no space, no home) is no reason to lose a build: the file is built
    again the next time, and the export says what is wrong with the trust file when the artifact is in its place.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, part = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    except OSError:
        return
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        os.replace(part, folder / name)
    except OSError:
        Path(part).unlink(missing_ok=True)
        return
    with contextlib.suppress(HpeLiteError):
        remember(hashlib.sha256(data).hexdigest(), f"cache: {name}")
