"""The GPU checklist without a GPU: what it plans, how it goes on after a failure, and the page it writes."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def script(root: Path) -> ModuleType:
    location = importlib.util.spec_from_file_location("gpu_check", root / "scripts/gpu_check.py")
    module = importlib.util.module_from_spec(location)
    sys.modules["gpu_check"] = module  # dataclasses look their module up
    location.loader.exec_module(module)
    return module


def shell(root: Path, *given: str, **more: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": "", **more}
    return subprocess.run(
        ["bash", root / "scripts/gpu_check.sh", *given], capture_output=True, text=True, env=environment
    )


def test_the_script_is_well_formed(root: Path) -> None:
    assert subprocess.run(["bash", "-n", root / "scripts/gpu_check.sh"]).returncode == 0
    assert os.access(root / "scripts/gpu_check.sh", os.X_OK)


def test_the_plan_can_be_seen_without_a_gpu(root: Path, script: ModuleType) -> None:
    done = shell(root, "--dry-run")
    assert done.returncode == 0
    names = [line.split(" (")[0] for line in done.stdout.splitlines()]
    assert names == [step.name for step in script.steps()] and len(set(names)) == len(names)
    assert names[0] == "tests"
    for model in ("vitpose-b-coco17", "sapiens-1b-wholebody133"):
        for runs in ("eager", "pt2", "compiled", "tensorrt"):
            assert f"{model}:{runs}:bfloat16" in names
    only = shell(root, "--dry-run", "--only", "sapiens-1b-wholebody133:eager").stdout.splitlines()
    assert len(only) == 2


def test_without_a_gpu_it_says_so_and_writes_nothing(root: Path, tmp_path: Path) -> None:
    done = shell(root, "--output", str(tmp_path / "docs"))
    assert done.returncode == 2
    assert done.stderr == (
        "gpu_check: expected a GPU that torch can use, found none; run it on a machine with an NVIDIA GPU\n"
    )
    assert not (tmp_path / "docs").exists() and done.stdout == ""


def test_wheels_need_a_folder(root: Path) -> None:
    assert shell(root, "--wheels").returncode != 0


def timed(size: int, rate: float, share: float | None) -> dict:
    return {"batch_size": size, "crops_per_s": rate, "share": share}


CHECK = {"passed": True, "shift_p95_px": 0.1234}
RESULTS = [
    {"step": "tests", "model": "", "runs": "tests", "mode": "", "status": "done", "why": "21 passed in 60 s"},
    {
        "step": "vitpose-b-coco17:eager:bfloat16",
        "model": "vitpose-b-coco17",
        "runs": "eager",
        "mode": "bfloat16",
        "status": "done",
        "check": CHECK,
        "timed": {
            "": [timed(1, 400.0, 0.05), timed(8, 3000.0, 0.321), timed(32, 9876.5, 0.456)],
            "without CUDA graphs": [timed(1, 100.0, 0.01), timed(8, 900.0, None)],
        },
    },
    {
        "step": "sapiens-1b-wholebody133:eager:float32",
        "model": "sapiens-1b-wholebody133",
        "runs": "eager",
        "mode": "float32",
        "status": "failed",
        "why": "shift_p95_px is 3, the limit is 0.05",
        "check": {"passed": False},
        "timed": {"": [{"batch_size": 8, "why": "8 crops at once need more memory than cuda:0 has free"}]},
    },
    {"step": "x:tensorrt:int8", "model": "x", "runs": "tensorrt", "mode": "int8", "status": "not here", "why": "no"},
]


def test_the_page(script: ModuleType) -> None:
    page = script.markdown({"machine": {"gpu": "NVIDIA H200", "torch": "2.11.0"}, "results": RESULTS})
    lines = page.splitlines()
    assert "on one NVIDIA H200 (torch 2.11.0)." in lines[2]
    table = [line for line in lines if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1, "every line has as many cells as the heading"
    passed = "bfloat16 | passed, p95 0.123 px"
    assert table[2:] == [
        f"| vitpose-b-coco17 | eager | {passed} | 400 (5 %) | 3000 (32 %) | 9876 (46 %) | 45 % |",
        f"| vitpose-b-coco17 | eager without CUDA graphs | {passed} | 100 (1 %) | 900 | not run | 45 % |",
        "| sapiens-1b-wholebody133 | eager | float32 | FAILED | not run | too large | not run |  |",
    ]
    assert lines[-2:] == ["- tests: done (21 passed in 60 s)", "- x:tensorrt:int8: not here (no)"]


def test_a_step_that_breaks_or_hangs_is_recorded_and_the_next_goes_on(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/gpu_trial.py").write_text(
        "import sys, time, json, subprocess\n"
        "model = sys.argv[sys.argv.index('--model') + 1]\n"
        "if model == 'breaks': sys.exit('it broke')\n"
        "if model == 'hangs': subprocess.run(['sleep', '60'])\n"
        "open(sys.argv[sys.argv.index('--result') + 1], 'w').write(json.dumps({'status': 'done', 'model is': model}))\n"
    )
    monkeypatch.setattr(script, "ROOT", tmp_path)
    chosen = [script.Step(model=name, runs="eager", limit_s=3) for name in ("breaks", "hangs", "works")]
    started = time.monotonic()
    broken, hung, worked = script.run_all(chosen, 0.1)
    assert time.monotonic() - started < 30
    assert (broken["status"], broken["why"]) == ("failed", "it broke")
    assert (hung["status"], hung["why"]) == ("failed", "over 3 s")
    assert (worked["status"], worked["model is"], worked["step"]) == ("done", "works", "works:eager")
    monkeypatch.setattr(script, "DEADLINE_S", 5)
    assert [result["status"] for result in script.run_all(chosen, 0.1)] == ["not run"] * 3


TRIAL = """
import json, sys
for name in ("jsonargparse", "rich", "yaml", "docstring_parser", "lightning", "pycocotools"):
    sys.modules[name] = None  # the machine with the GPU has none of them
from scripts.gpu_trial import not_here, try_out
from lite.checkpoints import load_network
model, *ways = sys.argv[1:]
print(json.dumps([try_out(load_network(model), runs, "bfloat16", [1, 3], 0.01) for runs in ways]))
"""


def test_a_trial_on_the_cpu_with_few_libraries(root: Path, golden: Path) -> None:
    """The same steps as on a GPU, in a process whose failure is no other test's."""
    model, ways = golden / "sapiens/networks/pose_tiny.pth", ("eager", "pt2")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRIAL, str(model), *ways],
        cwd=root,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for runs, report in zip(ways, json.loads(done.stdout.splitlines()[-1]), strict=True):
        assert report["status"] == "done", report["why"]
        assert report["check"]["passed"] and runs in report["describe"]
        assert [one["batch_size"] for one in report["timed"][""]] == [1, 3]
        assert all(one["crops_per_s"] > 0 and one["share"] > 0 for one in report["timed"][""])
