"""An exported program as an AOTInductor package: machine code for this kind of device and this torch."""

import contextlib
import io
import json
import logging
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from export.written import Written
from lite.artifact import ArtifactSpec
from lite.backends.artifact_file import SPEC_KEY, embedded_spec
from lite.backends.devices import device_tag
from lite.errors import ConfigError

# What the compiler may use of a processor with each tag of `lite.backends.devices`, so that the code runs on every
# processor with that tag and not only on this one.
MARCH = {
    "cpu x86_64 default": "x86-64",
    "cpu x86_64 avx2": "x86-64-v3",
    "cpu x86_64 avx512": "x86-64-v4",
    "cpu x86_64 avx512_bf16": "cooperlake",
    "cpu x86_64 amx_bf16": "sapphirerapids",
}


def check_compiler() -> None:
    """See that the C++ compiler is there that torch will call.

    Raises:
        ConfigError: it is not.
    """
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        raise ConfigError(
            f"compile: expected the C++ compiler {compiler}, found none; install it, set CXX to another, or leave "
            "--compile out"
        )


def compile_program(
    program: torch.export.ExportedProgram,
    pixels: torch.Tensor,
    path: Path,
    spec: ArtifactSpec,
) -> Written:
    """Compile `program` for the device of `pixels` and write the package.

    Args:
        program: with a dynamic batch.
        pixels: (B, h, w, 3) uint8 on that device; the batch the code is tuned for.
        spec: of the file, but for its device; written into the package as well.

    Raises:
        ConfigError: the compiler refuses the code.
    """
    from torch._inductor import aoti_compile_and_package
    from torch._inductor.exc import CppCompileError, InvalidCxxCompiler
    from torch._inductor.utils import fresh_cache

    tag = device_tag(pixels.device)
    inside = json.dumps(embedded_spec(replace(spec, device=tag)))
    program._example_inputs = ((pixels,), {})
    options = compile_options(tag) | {"aot_inductor.metadata": {SPEC_KEY: inside}}
    try:
        with torch.no_grad(), _quiet(), fresh_cache():
            aoti_compile_and_package(program, package_path=str(path), inductor_configs=options)
    except (CppCompileError, InvalidCxxCompiler) as problem:
        lines = [line for line in str(problem).splitlines() if "rror" in line] or ["no reason given"]
        raise ConfigError(
            f"compile: the C++ compiler failed ({lines[0].strip()[:200]}); install g++ 11 or newer with OpenMP, or "
            "leave --compile out"
        ) from None
    return Written(device=tag, native=True)


def compile_options(tag: str) -> dict[str, object]:
    """AOTInductor's settings for a device."""
    options: dict[str, object] = {"freezing": True}
    own = torch._inductor.config.aot_inductor
    if hasattr(own, "precompile_headers"):
        options["aot_inductor.precompile_headers"] = False  # they are kept in a folder that others may have made
    if hasattr(own, "enable_line_tables"):
        options["aot_inductor.enable_line_tables"] = False  # they hold paths of this machine
    if tag.startswith("cpu"):
        options["cpp.dynamic_threads"] = True  # as many as torch is told to use where the package runs
        if tag in MARCH and hasattr(torch._inductor.config.cpp, "march"):
            options["cpp.march"] = MARCH[tag]
    elif platform.machine() in ("x86_64", "AMD64") and hasattr(torch._inductor.config.cpp, "march"):
        options["cpp.march"] = MARCH["cpu x86_64 avx2"]  # the part beside the GPU; the machine may change
    return options


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the compiler's tables and warnings: what matters of them is in the error."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)
