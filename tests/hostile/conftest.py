"""One kit of good files to spoil, and one way to run a command that must refuse."""

import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from export.config import ExportConfig
from export.to_pt2 import to_pt2
from lite.backends.eager_backend import build_graph
from lite.checkpoints import load_network, read_state_dict, save_network
from lite.cli import main
from tests.hostile.corpus import Kit, saved
from tests.program_files import script

SECONDS = 60  # after which a command counts as hanging


@pytest.fixture(scope="session")
def good(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Kit:
    folder = tmp_path_factory.mktemp("good")
    checkpoint = golden / "sapiens/networks/pose_tiny.pth"
    network = load_network(checkpoint)
    save_network(network, folder / "x.safetensors")
    graph = build_graph(network)
    to_pt2(graph, folder / "x.pt2", ExportConfig(model="any", batch_max=8), lambda: None)
    state, _ = read_state_dict(checkpoint)
    return Kit(
        folder=folder,
        canary=folder / "canary",
        pt2=(folder / "x.pt2").read_bytes(),
        pth=checkpoint.read_bytes(),
        legacy=saved({"state_dict": state}, _use_new_zipfile_serialization=False),
        safetensors=(folder / "x.safetensors").read_bytes(),
        script=script(torch.nn.Conv2d(3, 3, 1)),
        spec=replace(graph.spec, batch_range=(1, 8), versions={"torch": torch.__version__}),
    )


@pytest.fixture
def kit(good: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kit:
    monkeypatch.setenv("HPE_LITE_TRUST", str(tmp_path / "trusted.json"))
    return replace(good, folder=tmp_path, canary=tmp_path / "canary")


@pytest.fixture
def no_hang() -> Iterator[None]:
    """A command that waits for ever is a failure, not an endless test."""

    def late(number: int, frame: object) -> None:
        raise TimeoutError(f"still running after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


Refuse = Callable[..., str]


@pytest.fixture
def refused(kit: Kit, root: Path, no_hang: None, capsys: pytest.CaptureFixture[str]) -> Refuse:
    """Run commands on a file; each must exit 2 with one line, run nothing and write nothing."""
    results, picture = kit.folder / "results", root / "lite/pictures/cameraman.png"
    words = {
        "infer": [
            "infer",
            "--input",
            str(picture),
            "--output",
            str(results),
            "--detector",
            "none",
            "--quiet",
            "--model",
        ],
        "inspect": ["inspect", "--file"],
        "export": ["export", "--output", str(results / "x.pt2"), "--checkpoint"],
    }

    def refuse(path: Path, commands: str = "infer inspect export", status: int = 2, extra: tuple[str, ...] = ()) -> str:
        lines = ""
        for command in commands.split():
            capsys.readouterr()
            found = main([*words[command], str(path), *extra])
            lines = capsys.readouterr().err
            assert (command, found) == (command, status), lines
            assert status != 2 or (lines.count("\n") == 1 and "Traceback" not in lines), (command, lines)
            assert len(lines) < 1000, (command, lines[:2000])
            assert not kit.canary.exists(), f"{command} ran code from the file"
            assert not results.exists() or not any(results.rglob("*")), f"{command} wrote results"
        return lines

    return refuse
