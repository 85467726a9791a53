"""An exported program as an AOTInductor package: machine code for this kind of device and this torch."""

import contextlib
import io
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from export.written import Written
from lite.artifact import ArtifactSpec
from lite.backends.devices import device_tag
from lite.backends.onnx_file import SPEC_KEY, embedded_spec
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
    from torch._inductor.exc import CppCompileError
    from torch._inductor.utils import fresh_cache

    tag = device_tag(pixels.device)
    inside = json.dumps(embedded_spec(replace(spec, device=tag)))
    program._example_inputs = ((pixels,), {})
    options = compile_options(tag) | {"aot_inductor.metadata": {SPEC_KEY: inside}}
    try:
        with torch.no_grad(), _quiet(), fresh_cache(dir=str(path.parent)):
            aoti_compile_and_package(program, package_path=str(path), inductor_configs=options)
    except CppCompileError as problem:
        lines = [line for line in str(problem).splitlines() if "error" in line] or ["no reason given"]
        raise ConfigError(
            f"compile: the C++ compiler failed ({lines[0].strip()[:200]}); install g++ 11 or newer with OpenMP, or "
            "leave --compile out"
        ) from None
    return Written(device=tag, native=True)


def compile_options(tag: str) -> dict[str, object]:
    """AOTInductor's settings for a device."""
    options: dict[str, object] = {"freezing": True}
    if tag.startswith("cpu"):
        options["cpp.dynamic_threads"] = True  # as many as torch is told to use where the package runs
        if tag in MARCH and hasattr(torch._inductor.config.cpp, "march"):
            options["cpp.march"] = MARCH[tag]
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
