"""A compiled package equals the eager graph, and runs only where, and only for whom, it was built."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from export.compile_pt2 import MARCH, check_compiler, compile_options
from export.config import ExportConfig
from export.pipeline import export
from export.to_pt2 import to_pt2
from lite.artifact import ArtifactSpec, CropRule, read_spec, sha256_of, spec_path, write_spec
from lite.backends import compiled_package, open_backend
from lite.backends.devices import CPU_LEVELS
from lite.errors import ArtifactError, ConfigError, UnsafeFileError
from lite.graph import PixelGraph, describe
from lite.trust import remember

SPEC = ArtifactSpec(
    task="pose", model="toy", input_hw=(16, 12), mean=(120.0, 110.0, 100.0), std=(50.0, 60.0, 70.0), crop=CropRule()
)


class Toy(nn.Module):
    """One convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 5, 3, 2, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"heatmaps": self.body(x)}


class Mean(nn.Module):
    """A decoder that compiles in a second."""

    def decode(self, heatmaps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.stack([heatmaps.mean((2, 3)), heatmaps.amax((2, 3))], dim=2), heatmaps.amin((2, 3))


@pytest.fixture(scope="module")
def graph() -> PixelGraph:
    torch.manual_seed(0)
    graph = PixelGraph(Toy().requires_grad_(False), Mean(), SPEC).eval()
    graph.spec = replace(SPEC, outputs=describe(graph).outputs)
    return graph


@pytest.fixture(scope="module")
def compiled(graph: PixelGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written, but not trusted yet."""
    if shutil.which("g++") is None:
        pytest.skip("needs a C++ compiler")
    path = tmp_path_factory.mktemp("compiled") / "toy.pt2"
    written = to_pt2(graph, path, ExportConfig(model="any", batch_max=8, compile=True), lambda: None)
    assert written.native and written.device.startswith("cpu ")
    assert [file.name for file in path.parent.iterdir()] == ["toy.pt2"]
    spec = replace(graph.spec, format="pt2", batch_range=(1, 8), device=written.device)
    write_spec(path, replace(spec, versions={"torch": torch.__version__}, sha256=sha256_of(path)))
    return path


@pytest.fixture
def package(compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh copy with a fresh trust file."""
    monkeypatch.setenv("HPE_LITE_TRUST", str(tmp_path / "trusted.json"))
    for file in (compiled, spec_path(compiled)):
        shutil.copy(file, tmp_path)
    return tmp_path / compiled.name


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3, 8])
def test_equal_to_eager_at_every_batch(package: Path, graph: PixelGraph, count: int) -> None:
    remember(sha256_of(package), package.name)
    pixels = np.random.default_rng(0).integers(0, 256, (count, 16, 12, 3), dtype=np.uint8)
    backend = open_backend(package)
    assert "compiled for cpu" in backend.describe
    found, expected = backend.run(pixels), graph(torch.from_numpy(pixels))
    assert list(found) == ["keypoints", "scores"]
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name].numpy(), atol=1e-5)
    assert backend.run(pixels[:0])["keypoints"].shape == (0, 5, 2)
    backend.close()


@pytest.mark.slow
def test_only_what_was_built_here_is_opened(package: Path) -> None:
    with pytest.raises(UnsafeFileError, match="did not build it"):
        open_backend(package)
    assert open_backend(package, trust=True).spec.model == "toy"
    remember("0" * 64, "another")
    with pytest.raises(UnsafeFileError, match="did not build it"):
        open_backend(package)
    remember(sha256_of(package), package.name)
    assert open_backend(package).spec.model == "toy"


@pytest.mark.slow
def test_nothing_of_the_places_it_was_made_in(package: Path, root: Path) -> None:
    """Only where torch was, whose headers the generated sources name; a virtual environment may lie in the project."""
    data = package.read_bytes().replace(f"{sys.prefix}/".encode(), b"")
    assert not [place for place in (root, package.parents[1]) if f"{place}/".encode() in data]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("versions", {"torch": "2.10.0"}, "compiled with torch 2.10.0"),
        ("versions", {}, "compiled with torch None"),
        ("device", "any", "holds machine code"),
        ("device", "cuda sm_90", "built for cuda sm_90"),
        ("device", "cpu x86_64 avx1024", "built for cpu x86_64 avx1024"),
        ("device", "cpu x86_64 default", "disagree about device"),
        ("input_hw", [640, 480], "disagree about input_hw"),
        ("batch_range", [1, 64], "disagree about batch_range"),
        ("outputs", [], "disagree about outputs"),
        ("mode", "bfloat16", "disagree about mode"),
        ("sha256", "0" * 64, "sha256"),
    ],
)
def test_a_json_that_lies(package: Path, name: str, value: object, says: str) -> None:
    values = json.loads(spec_path(package).read_text()) | {name: value}
    spec_path(package).write_text(json.dumps(values))
    with pytest.raises(ArtifactError, match=says):
        open_backend(package, trust=True)


@pytest.mark.slow
def test_a_file_changed_while_it_is_opened(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is loaded is what was hashed, whatever becomes of the file in between."""

    def change(sha256: str) -> bool:
        package.write_bytes(b"something else")
        return True

    monkeypatch.setattr(compiled_package, "is_trusted", change)
    assert open_backend(package).run(np.zeros((1, 16, 12, 3), np.uint8))["scores"].shape == (1, 5)


@pytest.mark.slow
def test_more_crops_than_it_takes(package: Path) -> None:
    with pytest.raises(Exception, match="at most 8"):
        open_backend(package, trust=True).run(np.zeros((9, 16, 12, 3), np.uint8))


def test_no_compiler(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match="expected the C\\+\\+ compiler no-such-compiler"):
        check_compiler()
    monkeypatch.setattr("export.pipeline.load_network", lambda *a, **k: pytest.fail("loaded before the question"))
    with pytest.raises(ConfigError, match="--compile"):
        export(ExportConfig(checkpoint=str(tiny), output=str(tmp_path / "x.pt2"), compile=True))


def test_code_uses_no_more_than_its_tag_says() -> None:
    assert [tag.split()[-1] for tag in MARCH] == list(CPU_LEVELS["x86_64"])
    assert compile_options("cuda sm_90").get("cpp.march", "x86-64-v3") == "x86-64-v3"
    options = compile_options("cpu x86_64 avx2")
    assert options["cpp.dynamic_threads"] and options.get("cpp.march", "x86-64-v3") == "x86-64-v3"


def test_what_is_remembered_after_the_gate(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A native file that passed is trusted from then on, with its companions; a portable one needs no trust."""
    from export import pipeline
    from lite.trust import is_trusted

    monkeypatch.setenv("HPE_LITE_TRUST", str(tmp_path / "trusted.json"))

    def native(portable: Callable) -> Callable:
        return lambda *arguments: replace(portable(*arguments), native=True)

    assert export(ExportConfig(checkpoint=str(tiny), output=str(tmp_path / "a.pt2"), batch_max=3)) == 0
    assert not is_trusted(read_spec(tmp_path / "a.pt2").sha256)
    monkeypatch.setattr(pipeline, "_writer", lambda name: native(to_pt2))
    assert export(ExportConfig(checkpoint=str(tiny), output=str(tmp_path / "b.pt2"), batch_max=3)) == 0
    assert is_trusted(read_spec(tmp_path / "b.pt2").sha256)
