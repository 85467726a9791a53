"""Backends run one network or exported file on one device. `BACKENDS` is the table; modules are imported on use."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from lite.artifact import read_spec, spec_path
from lite.backends.base import Backend
from lite.errors import ConfigError, MissingExtraError, ModelError

# Backend -> module with `open(model, *, device, mode, trust, flip_test, threads, config, provider) -> Backend`, the
# distribution it needs beside the required ones, and the extra that brings it.
BACKENDS = {
    "eager": ("lite.backends.eager_backend", None, None),
    "pt2": ("lite.backends.pt2_backend", None, None),
    "openvino": ("lite.backends.openvino_backend", "openvino", "cpu"),
    "onnxruntime": ("lite.backends.onnxruntime_backend", "onnxruntime", "cpu"),
    "onnxruntime-cuda": ("lite.backends.onnxruntime_backend", "onnxruntime", "cuda"),
    "onnxruntime-tensorrt": ("lite.backends.onnxruntime_backend", "onnxruntime", "cuda"),
    "tensorrt": ("lite.backends.tensorrt_backend", "tensorrt", "cuda"),
}
# Suffix of an exported file -> backends that can run it, the fastest first, on the CPU and on CUDA. Anything else is a
# zoo name or a checkpoint and runs eagerly.
SUFFIXES = {
    ".pt2": {"cpu": ("pt2",), "cuda": ("pt2",)},
    ".onnx": {
        "cpu": ("openvino", "onnxruntime"),
        "cuda": ("onnxruntime-cuda", "onnxruntime-tensorrt"),
    },
    ".xml": {"cpu": ("openvino",), "cuda": ()},
    ".engine": {"cpu": (), "cuda": ("tensorrt",)},
    ".plan": {"cpu": (), "cuda": ("tensorrt",)},
}
MODES = ("auto", "float32", "float16", "bfloat16", "int8")


def open_backend(
    model: str | Path,
    *,
    backend: str = "auto",
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
        backend: a name in `BACKENDS`; "auto" takes the fastest that is installed and can run the file on the device.
        device: "auto" (CUDA if there is one, else the CPU) or a torch device name.
        mode: "auto" (the fastest that is as good on this device), or one of `MODES`; an exported file has its own.
        trust: whether files that can run code may be opened.
        flip_test: average with the mirrored crop; None keeps what the model or file says.
        threads: CPU threads for the whole process; None leaves the setting alone.
        config: mmdet configuration that belongs to the checkpoint; that of an RTMDet is read, never run, any other
            needs `trust` and an installed mmdetection.

    Raises:
        ModelError: no such model, or one that cannot be used here; its subclasses say why.
        ConfigError: an option that cannot be met.
        MissingExtraError: the backend's library is not installed.
    """
    if mode not in MODES:
        raise ConfigError(f"mode: expected one of {', '.join(MODES)}, found {mode!r}")
    if threads is not None and threads < 1:
        raise ConfigError(f"threads: expected at least 1, found {threads}")
    if backend != "auto" and backend not in BACKENDS:
        raise ConfigError(f"backend: expected auto or one of {', '.join(BACKENDS)}, found {backend!r}")
    model, suffix = _find(model)
    if suffix == "" and backend == "pt2" and Path(model).suffix.lower() == ".pt2":
        read_spec(model)  # says that the JSON is missing
    chosen = choose_backend(suffix, backend, device)
    module = import_module(BACKENDS[chosen][0])
    options = {} if chosen.partition("-")[2] == "" else {"provider": chosen.partition("-")[2]}
    where = {"device": device, "mode": mode, "threads": threads, **options}
    try:
        return module.open(model, trust=trust, flip_test=flip_test, config=config, **where)
    except _out_of_memory():
        raise ModelError(
            f"{model}: device {device} has too little free memory for it; free some, or give another --device"
        ) from None


def choose_backend(suffix: str, backend: str = "auto", device: str = "auto") -> str:
    """The backend for a file of this suffix (in lower case; any but those of `SUFFIXES` is a network run eagerly).

    Raises:
        ConfigError: the backend asked for cannot run such a file.
        MissingExtraError: no library that could run it here is installed.
        ModelError: nothing runs such a file on this kind of device.
    """
    able = _able(suffix)
    if backend != "auto":
        if backend not in able:
            what = f"{suffix} files" if suffix in SUFFIXES else "zoo models and checkpoints"
            raise ConfigError(f"backend: {what} run on {', '.join(sorted(able))}, asked for {backend}")
        _require(backend)
        return backend
    if suffix not in SUFFIXES:
        return "eager"
    kind = "cuda" if (device == "auto" and _has_cuda()) or device.startswith("cuda") else "cpu"
    names = SUFFIXES[suffix][kind]
    if not names:
        other = ", ".join(kind for kind, names in SUFFIXES[suffix].items() if names)
        raise ModelError(
            f"{suffix} files run on {other}, asked for {kind}; give --device {other}, or export the model in another "
            "format"
        )
    for name in names:
        if _installed(name):
            return name
    _require(names[0])
    raise AssertionError("_require raises")


def able_backends(model: str | Path) -> set[str]:
    """Names of the backends that can run what `model` names, installed or not.

    Raises:
        ModelError: a `.pt2` that is not there.
    """
    suffix = Path(model).suffix.lower()
    return _able(_find(model)[1] if suffix == ".pt2" else suffix)


def _find(model: str | Path) -> tuple[str | Path, str]:
    """An exported file and its suffix in lower case; "" for what runs eagerly.

    That is also a `.pt2` without our JSON: others publish weights in such files, and they run in our network.
    """
    suffix = Path(model).suffix.lower()
    if suffix not in SUFFIXES:
        return model, ""
    path = import_module(BACKENDS["eager"][0]).find_artifact(model)
    return path, "" if suffix == ".pt2" and not spec_path(path).is_file() else suffix


def _able(suffix: str) -> set[str]:
    return {name for names in SUFFIXES.get(suffix, {"cpu": ("eager",)}).values() for name in names}


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _out_of_memory() -> type[Exception]:
    """What torch raises when a GPU is full."""
    import torch

    return torch.OutOfMemoryError


def _installed(backend: str) -> bool:
    library = BACKENDS[backend][1]
    return library is None or find_spec(library) is not None


def _require(backend: str) -> None:
    _, library, extra = BACKENDS[backend]
    if not _installed(backend):
        raise MissingExtraError(library, extra, f"the backend {backend}")
