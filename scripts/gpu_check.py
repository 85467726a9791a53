"""Try and time everything that needs an NVIDIA GPU, and write docs/gpu.md and docs/gpu.json; see gpu_check.sh.

    python scripts/gpu_check.py --output docs

Each step is a process of its own with a time limit (gpu_trial.py): one that fails is recorded and the next goes on.
Exit status 0: every step was done and every file passed its check; 1: not all; 2: there is no GPU, and nothing was
written.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Module -> distribution of what the steps import besides torch.
NEEDED = {"numpy": "numpy", "cv2": "opencv-python-headless", "safetensors": "safetensors", "pytest": "pytest"}
# Share of the matrix rate that the bfloat16 runs are meant to reach at batch 8 and 32.
TARGETS = {"vitpose-b-coco17": 0.45, "sapiens-1b-wholebody133": 0.55}
BATCHES = (1, 8, 32)
DEADLINE_S = 520


@dataclass(frozen=True, kw_only=True)
class Step:
    """One process: a zoo model with made-up weights, how it runs and in which mode; or the tests.

    `limit_s`: it is ended after that long. `batches`: the sizes that are timed.
    """

    model: str = ""
    runs: str = "tests"
    mode: str = ""
    limit_s: int = 100
    batches: tuple[int, ...] = BATCHES

    @property
    def name(self) -> str:
        return ":".join(part for part in (self.model, self.runs, self.mode) if part)


def steps() -> list[Step]:
    """What is done, the most telling first: the last ones are left out when time is up."""
    vitpose, sapiens = TARGETS
    planned = [Step(limit_s=150)]
    for model, compile_s in ((vitpose, 120), (sapiens, 200)):
        planned.append(Step(model=model, runs="eager", mode="bfloat16"))
        planned.append(Step(model=model, runs="compiled", mode="bfloat16", limit_s=compile_s))
    for model in (vitpose, sapiens):
        planned.append(Step(model=model, runs="pt2", mode="bfloat16"))
        planned.append(Step(model=model, runs="tensorrt", mode="bfloat16", limit_s=200))
        planned.append(Step(model=model, runs="onnxruntime", mode="float16"))
    planned.append(Step(model=vitpose, runs="eager", mode="float16"))
    planned.append(Step(model=vitpose, runs="eager", mode="float32"))
    planned.append(Step(model=vitpose, runs="tensorrt", mode="int8", limit_s=200))
    planned.append(Step(model=sapiens, runs="eager", mode="float32", batches=(1, 8)))
    return planned


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "docs", help="folder of gpu.md and gpu.json")
    parser.add_argument("--dry-run", action="store_true", help="list the steps and do none")
    parser.add_argument("--missing", action="store_true", help="print what has to be installed, and do nothing")
    parser.add_argument("--seconds", type=float, default=1.5, help="time for each batch size")
    parser.add_argument("--only", default="", help="do the steps whose names contain this")
    args = parser.parse_args()
    chosen = [step for step in steps() if args.only in step.name]
    if args.dry_run:
        print("\n".join(f"{step.name} (at most {step.limit_s} s)" for step in chosen))
        return 0
    if (why := no_gpu()) is not None:
        print(f"gpu_check: {why}; run it on a machine with an NVIDIA GPU", file=sys.stderr)
        return 2
    if args.missing:
        print(" ".join(package for module, package in NEEDED.items() if find_spec(module) is None))
        return 0
    report = {"machine": machine(), "results": run_all(chosen, args.seconds)}
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "gpu.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    (args.output / "gpu.md").write_text(markdown(report), encoding="utf-8")
    print(markdown(report))
    return 0 if all(result["status"] in ("done", "not here") for result in report["results"]) else 1


def no_gpu() -> str | None:
    """Why nothing can be done here; None when it can."""
    if find_spec("torch") is None:
        return "expected torch, found none"
    import torch

    return None if torch.cuda.is_available() else "expected a GPU that torch can use, found none"


def run_all(chosen: list[Step], seconds: float) -> list[dict[str, Any]]:
    """Each step in its own process, until the time for all of them is up."""
    started = time.monotonic()
    results = []
    for step in chosen:
        left = DEADLINE_S - (time.monotonic() - started)
        if left > 10:
            result = run_one(step, seconds, min(step.limit_s, left))
        else:
            result = {"status": "not run", "why": "no time was left"}
        results.append({"step": step.name, "model": step.model, "runs": step.runs, "mode": step.mode, **result})
        print(f"{step.name}: {result['status']} {result.get('why', '')}", file=sys.stderr, flush=True)
    return results


def run_one(step: Step, seconds: float, limit_s: float) -> dict[str, Any]:
    """What gpu_trial.py says of a step, or `failed` with the last line of its errors; and the `seconds` it took."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result, errors = Path(folder) / "result.json", Path(folder) / "errors"
        command = [sys.executable, str(ROOT / "scripts/gpu_trial.py"), "--runs", step.runs, "--result", str(result)]
        command += ["--seconds", str(seconds), "--model", step.model, "--mode", step.mode]
        command += ["--batches", *map(str, step.batches)]
        # Trust and cache of their own: what is tried here is nobody's artifact.
        own = {"HPE_LITE_TRUST": f"{folder}/trusted.json", "XDG_CACHE_HOME": f"{folder}/cache", "TMPDIR": folder}
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        with errors.open("w") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **own, "PYTHONPATH": path},
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,  # so that a compiler it started ends with it
            )
            try:
                code = process.wait(timeout=limit_s)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                code = None
        if code == 0:
            found = json.loads(result.read_text(encoding="utf-8"))
        else:
            lines = [line for line in errors.read_text(errors="replace").splitlines() if line.strip()]
            said = lines[-1] if lines else "no reason given"
            found = {"status": "failed", "why": f"over {limit_s:.0f} s" if code is None else said}
    return {**found, "seconds": round(time.monotonic() - started, 1)}


def machine() -> dict[str, Any]:
    """What was measured on."""
    import torch

    properties = torch.cuda.get_device_properties(0)
    libraries = {name: version(name) for name in ("tensorrt", "onnxruntime-gpu", "onnxruntime", "triton")}
    return {
        "gpu": properties.name,
        "capability": f"sm_{properties.major}{properties.minor}",
        "memory_gb": round(properties.total_memory / 1e9),
        "torch": torch.__version__,
        **{name: found for name, found in libraries.items() if found},
        "date": time.strftime("%Y-%m-%d"),
    }


def version(distribution: str) -> str | None:
    """Installed version; None when it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def markdown(report: dict[str, Any]) -> str:
    """The report as a page: one line a way of running, crops a second and share of the matrix rate by batch size."""
    of = ", ".join(f"{name} {value}" for name, value in report["machine"].items() if name != "gpu")
    sizes = [f"batch {size}" for size in BATCHES]
    lines = [
        "# On a GPU",
        "",
        f"Written by `scripts/gpu_check.sh` on one {report['machine']['gpu']} ({of}).",
        "",
        "Weights are made up; the check is the one of `hpe-lite export`, against the same network in float32.",
        "Numbers are crops a second; in brackets the share of the rate of one matrix product of the trunk's shape and",
        "the mode's dtype, measured in turns with the run.",
        "",
        f"| model | runs | mode | check | {' | '.join(sizes)} | target |",
        "| --- | --- | --- | --- |" + " --- |" * (len(sizes) + 1),
    ]
    without_times = []
    for result in report["results"]:
        if result.get("timed"):
            lines += rows(result)
        else:
            why = f" ({result['why']})" if result.get("why") else ""
            without_times.append(f"- {result['step']}: {result['status']}{why}")
    return "\n".join([*lines, "", *without_times, ""])


def rows(result: dict[str, Any]) -> list[str]:
    """A step's lines of the table."""
    check = result["check"]
    shift = f", p95 {check['shift_p95_px']:.3g} px" if "shift_p95_px" in check else ""
    gate = ("passed" if check["passed"] else "FAILED") + shift
    target = f"{100 * TARGETS[result['model']]:.0f} %" if result["mode"] == "bfloat16" else ""
    lines = []
    for how, timed in result["timed"].items():
        cells = [cell(next((one for one in timed if one["batch_size"] == size), None)) for size in BATCHES]
        runs = f"{result['runs']} {how}".strip()
        lines.append("| " + " | ".join([result["model"], runs, result["mode"], gate, *cells, target]) + " |")
    return lines


def cell(timed: dict[str, Any] | None) -> str:
    """Crops a second and the share of the matrix rate."""
    if timed is None:
        return "not run"
    if "why" in timed:
        return "too large"
    share = "" if timed["share"] is None else f" ({100 * timed['share']:.0f} %)"
    return f"{timed['crops_per_s']:.4g}{share}"


if __name__ == "__main__":
    sys.exit(main())
