"""Backends run one network or exported file on one device. `BACKENDS` is the table; modules are imported on use."""

from importlib import import_module
from pathlib import Path

from lite.backends.base import Backend
from lite.errors import ConfigError, ModelError

# Format -> module with `open(model, *, device, mode, trust, flip_test, threads, config) -> Backend`.
BACKENDS = {
    "eager": "lite.backends.eager_backend",
    "pt2": "lite.backends.pt2_backend",
}
# Suffixes of exported files; anything else is a zoo name or a checkpoint and runs eagerly.
SUFFIXES = {".pt2": "pt2"}
NOT_YET = {".onnx", ".xml", ".engine", ".plan"}
MODES = ("auto", "float32", "float16", "bfloat16")


def open_backend(
    model: str | Path,
    *,
    device: str = "auto",
    mode: str = "auto",
    trust: bool = False,
    flip_test: bool | None = None,
    threads: int | None = None,
    config: str | Path | None = None,
) -> Backend:
    """Make a model ready to run.

    Args:
        model: zoo name, checkpoint, or exported file with its JSON beside it.
        device: "auto" (CUDA if there is one, else the CPU) or a torch device name.
        mode: "auto" (the fastest that is as good on this device), or one of `MODES`; an exported file has its own.
        trust: whether files that can run code may be opened.
        flip_test: average with the mirrored crop; None keeps what the model or file says.
        threads: CPU threads for the whole process; None leaves the setting alone.
        config: mmdet configuration that belongs to the checkpoint; it is read, never run.

    Raises:
        ModelError: no such model, or one that cannot be used here; its subclasses say why.
        ConfigError: an option that cannot be met.
    """
    if mode not in MODES:
        raise ConfigError(f"mode: expected one of {', '.join(MODES)}, found {mode!r}")
    if threads is not None and threads < 1:
        raise ConfigError(f"threads: expected at least 1, found {threads}")
    suffix = Path(model).suffix.lower()
    if suffix in NOT_YET:
        raise ModelError(f"{model}: expected a file that can be run here ({', '.join(SUFFIXES)}), found {suffix}")
    format_name = SUFFIXES.get(suffix, "eager")
    if format_name != "eager":
        model = import_module(BACKENDS["eager"]).find_artifact(model)
    module = import_module(BACKENDS[format_name])
    return module.open(
        model, device=device, mode=mode, trust=trust, flip_test=flip_test, threads=threads, config=config
    )
