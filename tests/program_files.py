"""Files that are programs, in each layout torch has written them in."""

import io
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lite.models.sapiens import SapiensPose, TrunkSizes

SIZES = TrunkSizes(width=32, depth=1, num_heads=4, hidden=48, grid_hw=(4, 3))


class Preprocessor(nn.Module):
    """mmpose keeps mean and deviation as buffers that are not saved, but programs hold them."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((3, 1, 1), 120.0), persistent=False)
        self.register_buffer("std", torch.full((3, 1, 1), 58.0), persistent=False)


class Estimator(nn.Module):
    """A network laid out as the original: tensors out, names as published."""

    def __init__(self) -> None:
        super().__init__()
        network = SapiensPose(SIZES, 17, (16, 16), (16, 16))
        self.data_preprocessor = Preprocessor()
        self.backbone = network.backbone
        self.head = network.head

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone((inputs - self.data_preprocessor.mean) / self.data_preprocessor.std))


def script(module: nn.Module) -> bytes:
    """Traced with one crop, as Sapiens-Lite does it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module, torch.zeros(1, 3, 64, 48), check_trace=False)
        buffer = io.BytesIO()
        torch.jit.save(traced, buffer)
    return buffer.getvalue()


def halved(data: bytes) -> bytes:
    """A TorchScript archive with its weights in float16."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.load(io.BytesIO(data)).half(), buffer)
    return buffer.getvalue()


def program(module: nn.Module) -> bytes:
    """Exported with a dynamic batch, as Sapiens-Lite does it."""
    buffer = io.BytesIO()
    batch = torch.export.Dim("batch", min=1, max=48)
    exported = torch.export.export(module, (torch.zeros(2, 3, 64, 48),), dynamic_shapes=({0: batch},))
    torch.export.save(exported, buffer)
    return buffer.getvalue()


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def old_program(weights: bytes, name: str = "serialized_state_dict.pt") -> bytes:
    """As torch 2.4 wrote it, and under the name `serialized_state_dict.json` torch 2.2."""
    members = {"serialized_exported_program.json": b"{}", name: weights, "version": b"5.1"}
    return zipped({**members, "serialized_constants.pt": b"", "serialized_example_inputs.pt": b""})


def archive_2_8(weights: bytes) -> bytes:
    """As torch 2.8 wrote it."""
    members = {"archive_format": b"pt2", "models/model.json": b"{}", "data/weights/model.pt": weights}
    return zipped({f"x/{name}": data for name, data in {**members, "byteorder": b"little"}.items()})


def changed(data: bytes, change: Callable[[dict[str, bytes]], object]) -> bytes:
    """An archive with other members; `change` sees them without the name of the root folder."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        root = archive.namelist()[0].split("/")[0]
        members = {name.removeprefix(f"{root}/"): archive.read(name) for name in archive.namelist()}
    change(members)
    return zipped({f"{root}/{name}": data for name, data in members.items()})


def write(folder: Path, data: bytes) -> Path:
    path = folder / "x.pt2"
    path.write_bytes(data)
    return path


def one_sentence(problem: BaseException) -> bool:
    return "\n" not in str(problem) and "Traceback" not in str(problem)
