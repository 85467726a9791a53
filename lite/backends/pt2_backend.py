"""A `.pt2` file written by `hpe-lite export`, run by torch without the network's code: program or compiled package."""

from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor
from torch.export.passes import move_to_device_pass

from lite.artifact import ArtifactSpec, read_spec
from lite.backends.artifact_file import (
    SPEC_KEY,
    check_hash,
    check_inside,
    check_request,
    check_same,
    check_version,
    input_sides,
    open_file,
    output_sides,
)
from lite.backends.compiled_package import is_compiled, load_package
from lite.backends.cpu_bfloat16 import keep_memory, quicken_program
from lite.backends.cpu_convolution import pack_program
from lite.backends.cpu_maps import planar_program
from lite.backends.devices import choose_device
from lite.backends.pt2_archive import vet_archive
from lite.backends.side_by_side import SideBySide
from lite.backends.torch_module import TorchModuleBackend
from lite.errors import ArtifactError, first_line
from lite.network import OUTPUTS

TASK_OUTPUTS = {task: list(names) for task, names in OUTPUTS.items()}


class Pt2Backend(TorchModuleBackend):
    """An exported program."""

    def __init__(self, program: torch.export.ExportedProgram, spec: ArtifactSpec, device: torch.device) -> None:
        module = program.module().to(memory_format=torch.channels_last)
        if device.type == "cpu" and spec.mode == "float32":
            pack_program(module)
        packed = 0
        if device.type == "cpu":
            keep_memory()
            if spec.mode == "bfloat16":
                packed = quicken_program(module)
            planar_program(module)
        super().__init__(module, spec, device, f"pt2 {spec.mode}")
        if packed > 0 and SideBySide.suits(spec):
            self._call = SideBySide(module)


class CompiledBackend(TorchModuleBackend):
    """The function of an AOTInductor package."""

    def __init__(self, function: Any, spec: ArtifactSpec, device: torch.device) -> None:
        if device.type == "cpu":
            keep_memory()
        super().__init__(function, spec, device, f"pt2 {spec.mode} compiled for {spec.device},")


def open(
    model: str | Path,
    *,
    device: str = "auto",
    mode: str = "auto",
    trust: bool = False,
    flip_test: bool | None = None,
    threads: int | None = None,
    config: str | Path | None = None,
) -> TorchModuleBackend:
    """Vet and load an exported file; see `lite.backends.open_backend` for arguments and errors."""
    path = Path(model)
    spec = read_spec(path)
    check_request(spec, path, ("pt2",), mode, flip_test)
    check_version(spec, path, "torch", torch.__version__)
    if spec.companions:
        raise ArtifactError(f"{path}: its JSON names other files, a .pt2 file has none; export the model again")
    target = choose_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    with open_file(path) as file:
        if is_compiled(file):
            return CompiledBackend(load_package(file, spec, path, target, trust), spec, target)
        program, inside = _load(file, spec, path, trust)
    _check_program(program, spec, path)
    check_inside(inside, spec, path)
    if target.type != "cpu":
        program = move_to_device_pass(program, target)
    return Pt2Backend(program, spec, target)


def _load(file: IO[bytes], spec: ArtifactSpec, path: Path, trust: bool) -> tuple[Any, str]:
    """Hash, vet and load through one open file: the program, and what the file says of itself."""
    check_hash(file, spec, path)
    if not trust:
        vet_archive(file, path.name)
    try:
        extra = {f"{SPEC_KEY}.json": ""}
        return torch.export.load(file, extra_files=extra), extra[f"{SPEC_KEY}.json"]
    except Exception as problem:  # torch raises a dozen kinds here; all of them mean the file is not usable
        raise ArtifactError(
            f"{path}: torch cannot load it ({first_line(problem)}); export the model again"
        ) from problem


def _check_program(program: torch.export.ExportedProgram, spec: ArtifactSpec, path: Path) -> None:
    """The JSON must describe this program."""
    try:
        found, wanted = _parts(program, spec)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):  # outputs that are no tensors, no range
        raise ArtifactError(
            f"{path}: expected tensors in and out and a range of batches, found another program; export the model again"
        ) from None
    check_same(found, wanted, path)


def _parts(program: torch.export.ExportedProgram, spec: ArtifactSpec) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the program has and what the JSON says: input size, batch range, names and shapes of the outputs, mode."""
    nodes = {node.name: node.meta.get("val") for node in program.graph.nodes}
    inputs = [nodes[name] for name in program.graph_signature.user_inputs]
    outputs = [nodes[name] for name in program.graph_signature.user_outputs]
    found = {
        "input": [_sides(value) for value in inputs],
        "input dtype": [str(value.dtype) for value in inputs],
    }
    wanted = {"input": [input_sides(spec)], "input dtype": ["torch.uint8"]}
    found["outputs"] = [(_sides(value), str(value.dtype)) for value in outputs]
    wanted["outputs"] = [(output_sides(output), f"torch.{output.dtype}") for output in spec.outputs]
    found["output names"] = program.call_spec.out_spec.context
    wanted["output names"] = [output.name for output in spec.outputs]
    found["outputs for its task"], wanted["outputs for its task"] = found["output names"], TASK_OUTPUTS.get(spec.task)
    half = {str(t.dtype) for t in program.state_dict.values()} & {"torch.bfloat16", "torch.float16"}
    found["mode"], wanted["mode"] = (half.pop().removeprefix("torch.") if half else "float32"), spec.mode
    ranges = [program.range_constraints[value.shape[0].node.expr] for value in inputs]
    found["batch range"] = [(int(one.lower), int(one.upper)) for one in ranges]
    wanted["batch range"] = [tuple(spec.batch_range)]
    return found, wanted


def _sides(value: Tensor) -> tuple[int | None, ...]:
    """Its shape without the batch; None for a side that varies."""
    return tuple(side if isinstance(side, int) else None for side in value.shape[1:])
