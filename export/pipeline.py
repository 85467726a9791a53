"""build -> load -> graph -> convert -> check -> write the artifact."""

import os
import tempfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import nn

import lite
from export.check import Reference, check, reference, report_lines
from export.config import SUFFIXES, ExportConfig
from export.crops import check_crops
from export.written import Writer, Written
from lite.artifact import ArtifactSpec, sha256_of, spec_path, write_spec
from lite.backends import open_backend
from lite.backends.eager_backend import build_graph
from lite.backends.fold import fold_batch_norm
from lite.checkpoints import load_network
from lite.errors import ConfigError
from lite.skeletons import load_skeleton
from lite.trust import remember

# Format -> module and writer, imported on use.
FORMATS = {
    "pt2": "export.to_pt2:to_pt2",
    "onnx": "export.to_onnx:to_onnx",
    "openvino": "export.to_openvino:to_openvino",
    "tensorrt": "export.to_tensorrt:to_tensorrt",
}
# Crops to check with: many where a crop is cheap, few where it takes seconds.
CHECK_CROPS, CHECK_CROPS_LARGE, LARGE_INPUT_PX = 12, 3, 512 * 512


def export(config: ExportConfig) -> int:
    """Write the artifact; 0 when it passed the check, 1 when it did not and nothing was written.

    Raises:
        HpeLiteError: the network cannot be built or loaded, or the output is in the way.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    _check_ready(config)
    network = _network(config)
    output = _output(config, network.spec)
    expected = _expected(network, config)
    fold_batch_norm(network)
    graph = build_graph(network, mode=config.mode, flip_test=config.flip_test)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder:
        part = Path(folder) / output.name
        written = _writer(config.format)(graph, part, config, lambda: _calibration(graph.spec, config))
        spec = _describe(graph.spec, part, config, written)
        write_spec(part, spec)
        backend = open_backend(part, device=config.device, trust=written.native)
        report = check(backend, expected)
        backend.close()
        print("\n".join(report_lines(report)))
        if not report["passed"]:
            print(f"{output} was not written")
            return 1
        write_spec(part, replace(spec, check=report))
        for name in spec.companions:
            os.replace(part.with_name(name), output.with_name(name))
        os.replace(part, output)
        os.replace(spec_path(part), spec_path(output))
    if written.native:
        for sha256, name in ((spec.sha256, output.name), *((sha, name) for name, sha in spec.companions.items())):
            remember(sha256, name)
    print(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB) and {spec_path(output).name}")
    return 0


def _check_ready(config: ExportConfig) -> None:
    """Have a format that needs a certain library or device ask for it before anything that takes long."""
    module, _, _ = FORMATS[config.format].partition(":")
    check_ready = getattr(import_module(module), "check_ready", None)
    if check_ready is not None:
        check_ready(config)


def _writer(format_name: str) -> Writer:
    module, _, name = FORMATS[format_name].partition(":")
    return getattr(import_module(module), name)


def _calibration(spec: ArtifactSpec, config: ExportConfig) -> np.ndarray:
    """Crops to find value ranges with: the user's pictures, else those of the check."""
    return check_crops(spec, config.calibration_images or config.check_images, config.calibration_crops)


def _network(config: ExportConfig) -> nn.Module:
    """The network with its weights, float32, eval mode."""
    return load_network(config.checkpoint, model=config.model, trust=config.trust)


def _output(config: ExportConfig, spec: ArtifactSpec) -> Path:
    """Where the artifact goes; its folder exists afterwards."""
    name = f"{config.model or spec.model}_{config.mode}{SUFFIXES[config.format]}"
    output = Path(config.output) if config.output else Path("checkpoints") / name
    if output.exists() and not config.overwrite:
        raise ConfigError(f"output: {output} is there already; give another --output or pass --overwrite")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output.parent).close()
    except OSError as problem:
        raise ConfigError(
            f"output: expected a folder that can be written, found {output.parent} ({problem.strerror})"
        ) from None
    return output


def _expected(network: nn.Module, config: ExportConfig) -> Reference:
    """The eager float32 outputs, taken before the network is converted in place."""
    graph = build_graph(network, mode="float32", flip_test=config.flip_test)
    height, width = graph.spec.input_hw
    count = CHECK_CROPS_LARGE if height * width > LARGE_INPUT_PX else CHECK_CROPS
    pixels = check_crops(graph.spec, config.check_images, min(count, config.batch_max))
    return reference(graph, pixels, config.mode, _sigmas(graph.spec))


def _sigmas(spec: ArtifactSpec) -> np.ndarray:
    """OKS constants of the spec's skeleton; a middling one for keypoints without names."""
    return np.asarray(load_skeleton(spec.skeleton).oks_sigmas if spec.skeleton else [0.05])


def _describe(spec: ArtifactSpec, path: Path, config: ExportConfig, written: Written) -> ArtifactSpec:
    others = [file for file in path.parent.iterdir() if file.name.startswith(path.stem) and file != path]
    return replace(
        spec,
        format=config.format,
        batch_range=(1, config.batch_max),
        versions={"torch": torch.__version__, "hpe-lite": lite.__version__, **written.versions},
        device=written.device,
        sha256=sha256_of(path),
        companions={file.name: sha256_of(file) for file in sorted(others)},
    )
