"""build -> load -> graph -> convert -> check -> write the artifact."""

import gc
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

import lite
from export.check_again import check_again
from export.config import SUFFIXES, ExportConfig
from export.crops import calibration_crops, check_crops
from export.gate import judge, prepare
from export.place import check_place, move_in, workshop
from export.written import Writer, Written
from lite.artifact import ArtifactSpec, sha256_of, spec_path, write_spec
from lite.backends import choose_backend
from lite.backends.devices import choose_device
from lite.backends.onnxruntime_backend import check_cpu_mode
from lite.checkpoints import load_network
from lite.errors import MissingExtraError
from lite.trust import remember

# Format -> module and writer, imported on use.
FORMATS = {
    "pt2": "export.to_pt2:to_pt2",
    "onnx": "export.to_onnx:to_onnx",
    "openvino": "export.to_openvino:to_openvino",
    "tensorrt": "export.to_tensorrt:to_tensorrt",
}
# Format -> libraries its writer imports, all of the extra "onnx"; the runtime that checks is asked for by its backend.
WRITERS_NEED = {
    "pt2": (),
    "onnx": ("onnx", "onnxscript"),
    "openvino": ("onnx", "onnxscript"),
    "tensorrt": ("onnx", "onnxscript"),
}


def export(config: ExportConfig) -> int:
    """Write the artifact; 0 when it passed the check, 1 when it did not and nothing was written.

    Never are more than two copies of the weights in memory: those of the file they came from (mapped, so that the
    system may drop them) and those in the mode, of which the writer makes its file. They are gone when the file is
    opened for the check.

    Raises:
        HpeLiteError: the network cannot be built or loaded, a library is missing, or the output is in the way.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if config.check_only is not None:
        return check_again(config)
    _check_ready(config)
    network = load_network(config.checkpoint, model=config.model, trust=config.trust)
    output = _output(config, network.spec)
    check_place(output, config.overwrite)
    expected, graph = prepare(
        network,
        mode=config.mode,
        flip_test=config.flip_test,
        batch_max=config.batch_max,
        check_images=config.check_images,
    )
    del network
    with workshop(output) as folder:
        part, spec = folder / output.name, graph.spec
        written = _writer(config.format)(graph, part, config, partial(_calibration, spec, config))
        del graph
        gc.collect()  # tracing leaves the network in circles of references
        spec = _describe(spec, part, config, written)
        write_spec(part, spec)
        # A checkpoint that was trusted says nothing of the file: it must pass as it will for whoever runs it.
        report = judge(part, expected, backend=config.backend, device=config.device, trust=written.native)
        if not report["passed"]:
            print(f"{output} was not written")
            return 1
        write_spec(part, replace(spec, check=report))
        move_in(folder, [*spec.companions, part.name, spec_path(part).name], output, config.overwrite)
    if written.native:
        for sha256, name in ((spec.sha256, output.name), *((sha, name) for name, sha in spec.companions.items())):
            remember(sha256, name)
    print(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB) and {spec_path(output).name}")
    return 0


def _check_ready(config: ExportConfig) -> None:
    """Ask for libraries and devices before anything that takes long.

    Raises:
        MissingExtraError: a library of the writer or of the runtime that checks is not installed.
        HpeLiteError: the format cannot be made or run on this device.
    """
    module, _, _ = FORMATS[config.format].partition(":")
    check_ready = getattr(import_module(module), "check_ready", None)
    if check_ready is not None:
        check_ready(config)
    for library in WRITERS_NEED[config.format]:
        if find_spec(library) is None:
            raise MissingExtraError(library, "onnx", f"export to {config.format}")
    choose_device(config.device)
    if choose_backend(SUFFIXES[config.format], config.backend, config.device) == "onnxruntime":
        check_cpu_mode(config.mode, "the file asked for")


def _writer(format_name: str) -> Writer:
    module, _, name = FORMATS[format_name].partition(":")
    return getattr(import_module(module), name)


def _calibration(spec: ArtifactSpec, config: ExportConfig) -> np.ndarray:
    """Crops to find value ranges with: the user's pictures, else those of the check."""
    count = config.calibration_crops or calibration_crops(spec)
    return check_crops(spec, config.calibration_images or config.check_images, count)


def _output(config: ExportConfig, spec: ArtifactSpec) -> Path:
    """Where the artifact goes."""
    name = f"{config.model or spec.model}_{config.mode}{SUFFIXES[config.format]}"
    return Path(config.output) if config.output else Path("checkpoints") / name


def _describe(spec: ArtifactSpec, path: Path, config: ExportConfig, written: Written) -> ArtifactSpec:
    others = [
        file for file in path.parent.iterdir() if file.is_file() and file.name.startswith(path.stem) and file != path
    ]
    return replace(
        spec,
        format=config.format,
        batch_range=(1, config.batch_max),
        versions={"torch": torch.__version__, "hpe-lite": lite.__version__, **written.versions},
        device=written.device,
        sha256=sha256_of(path),
        companions={file.name: sha256_of(file) for file in sorted(others)},
    )
