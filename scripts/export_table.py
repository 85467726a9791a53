"""Export, check and time every format in every mode, and write the table of docs/export.md.

    python scripts/export_table.py --output table.json --write docs/export.md
    python scripts/export_table.py --output table.json --only sapiens-0.3b-wholebody133,openvino --again

The built-in pair has its own weights, the others get made-up ones (scripts/random_weights.py, seed 0). Each row is made
by processes of its own: `hpe-lite export`, which checks the file against the eager float32 network, and
`hpe-lite bench model`. What is done is kept in the JSON, so that the command can be interrupted and given again. A row
that cannot be made says why. Rows of the large network in float16 are left out for torch and ONNX Runtime unless named
by --only: they are as slow as float32. The rest takes about half an hour on two cores that have nothing else to do.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
MODELS = ("pose17-small", "person-nano", "vitpose-b-coco17", "sapiens-0.3b-wholebody133")
OWN_WEIGHTS = ("pose17-small", "person-nano")
FORMATS = ("eager", "pt2", "pt2 --compile", "onnx", "openvino")
MODES = ("float32", "float16", "bfloat16", "int8")
SUFFIXES = {"pt2": ".pt2", "pt2 --compile": ".pt2", "onnx": ".onnx", "openvino": ".xml"}
BACKENDS = {"onnx": "onnxruntime"}  # `auto` would take OpenVINO for them
# Seconds a crop takes in float32; where it is more than a few, batches of 8 are left out of the modes that are as slow.
SLOW_MODELS = ("sapiens-0.3b-wholebody133",)
FAST_MODES = ("bfloat16", "int8")
LIMIT_S = 900
# On a busy machine the product can be held up more than the graph. No network is faster than the machine, so that
# shows, and the row is timed again.
TRIES = 3


class Row(NamedTuple):
    """What one line of the table is about."""

    model: str
    format: str
    mode: str

    def key(self) -> str:
        """As it stands in the JSON and in `--only`."""
        return ",".join(self)


def rows() -> Iterator[Row]:
    """All rows in the order of the table; eager and pt2 networks have no int8."""
    for model in MODELS:
        for form in FORMATS:
            for mode in MODES:
                if mode != "int8" or form in ("onnx", "openvino"):
                    yield Row(model, form, mode)


def wanted(row: Row, only: Sequence[str]) -> bool:
    """Whether a row is among those named by "model", "model,format" or "model,format,mode".

    None named means all but those that take minutes and say little: on a processor torch and ONNX Runtime compute
    float16 no faster than float32. They are made when they are named.
    """
    if only:
        return any(f"{row.key()},".startswith(f"{name},") for name in only)
    slow = {"float16"} if row.format != "openvino" else set()
    slow |= {"float32"} if row.format == "pt2 --compile" else set()
    return not (row.model in SLOW_MODELS and row.mode in slow)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="JSON with what is done; continued when it exists")
    parser.add_argument("--write", type=Path, help="Markdown file with the two marker lines; its table is replaced")
    parser.add_argument("--only", action="append", default=[], metavar="MODEL[,FORMAT[,MODE]]")
    parser.add_argument("--again", action="store_true", help="make rows that are done again")
    parser.add_argument("--folder", type=Path, help="where weights and artifacts are kept; else they are deleted")
    parser.add_argument("--seconds", type=float, default=3.0, help="of measurement for each batch size")
    args = parser.parse_args()
    done: dict[str, Any] = json.loads(args.output.read_text()) if args.output.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for row in rows():
            if wanted(row, args.only) and (args.again or row.key() not in done):
                done[row.key()] = make(row, folder, args.seconds, keep=args.folder is not None)
                keep(args.output, json.dumps(done, indent=2) + "\n")
                print(line(row, done[row.key()]), flush=True)
    table = markdown({row: done[row.key()] for row in rows() if row.key() in done})
    if args.write:
        keep(args.write, replaced(args.write.read_text(encoding="utf-8"), table))
    else:
        print(table)


def make(row: Row, folder: Path, seconds: float, keep: bool) -> dict[str, Any]:
    """Export, check and time one row.

    Returns:
        `problem` (why there is no file or time, or None), `size_mb`, `check` (quantity -> value), `limits`, `bench`
        (the report of `hpe-lite bench model`, or None), `seconds` for all of it.
    """
    started = time.perf_counter()
    found: dict[str, Any] = {"problem": None, "size_mb": None, "check": {}, "limits": {}, "bench": None}
    try:
        checkpoint = weights(row.model, folder)
        if row.format == "eager":
            words = ["--model", str(checkpoint or row.model), "--mode", row.mode]
        else:
            artifact = folder / f"{row.model}_{row.format.replace(' --', '-')}_{row.mode}{SUFFIXES[row.format]}"
            written = export(row, checkpoint, artifact)
            found |= parsed(written.stdout)
            if written.returncode:
                raise RuntimeError(reason(written))
            found["size_mb"] = sum(file.stat().st_size for file in parts(artifact)) / 1e6
            words = ["--model", str(artifact), *(["--backend", BACKENDS[row.format]] if row.format in BACKENDS else [])]
        sizes = "1" if row.model in SLOW_MODELS and row.mode not in FAST_MODES else "1,8"
        for _ in range(TRIES):
            timed = hpe_lite("bench", "model", *words, "--batch-size", sizes, "--seconds", str(seconds), "--json")
            if timed.returncode:
                raise RuntimeError(reason(timed))
            found["bench"] = json.loads(timed.stdout)
            if all((one["share"] or 0) <= 1 for one in found["bench"]["batches"]):
                break
        if row.format != "eager" and not keep:
            for file in parts(artifact):
                file.unlink()
    except subprocess.TimeoutExpired as problem:
        found["problem"] = f"not done after {problem.timeout:.0f} s"
    except RuntimeError as problem:
        found["problem"] = str(problem)
    return found | {"seconds": time.perf_counter() - started}


def weights(model: str, folder: Path) -> Path | None:
    """A checkpoint with made-up weights, made once; None for models that bring their own."""
    if model in OWN_WEIGHTS:
        return None
    path = folder / f"{model}.safetensors"
    if not path.exists():
        made = run(sys.executable, str(ROOT / "scripts/random_weights.py"), "--model", model, "--output", str(path))
        if made.returncode:
            raise RuntimeError(reason(made))
    return path


def export(row: Row, checkpoint: Path | None, artifact: Path) -> subprocess.CompletedProcess[str]:
    name, *flags = row.format.split()
    source = [] if checkpoint is None else ["--checkpoint", str(checkpoint)]
    target = ["--format", name, *flags, "--mode", row.mode, "--output", str(artifact), "--overwrite"]
    return hpe_lite("export", "--model", row.model, *source, *target)


def hpe_lite(*words: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "lite.cli", *words)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, env=environment, check=False)


def parts(artifact: Path) -> list[Path]:
    """The artifact and what belongs to it: its JSON, OpenVINO's weights, ONNX external data."""
    return sorted(file for file in artifact.parent.glob(f"{artifact.stem}.*") if file.is_file())


def parsed(printed: str) -> dict[str, dict[str, float]]:
    """Quantities and limits of the check that `hpe-lite export` prints, also of one that failed."""
    found = re.findall(r"^  (\w+) +([-+.\de]+) \(limit ([-+.\de]+)", printed, re.MULTILINE)
    return {"check": {name: float(value) for name, value, _ in found}, "limits": {n: float(v) for n, _, v in found}}


def reason(process: subprocess.CompletedProcess[str]) -> str:
    """Why a command failed, in one line."""
    failed = re.findall(r"^  FAILED: (.*)$", process.stdout, re.MULTILINE)
    if failed:
        return "gate: " + "; ".join(failed)
    said = (process.stderr or process.stdout).strip().splitlines() or [f"exit status {process.returncode}"]
    return re.sub(r"^hpe-lite [a-z ]+: ", "", said[-1])


def line(row: Row, found: dict[str, Any]) -> str:
    """One row of the table."""
    check, bench = found["check"], found["bench"]
    gate = "reference" if (row.format, row.mode) == ("eager", "float32") else "passed" if check else ""
    if found["problem"]:
        gate = found["problem"].replace("|", "/")
    cells = [row.model, f"`{row.format}`", row.mode, number(found["size_mb"], ".1f"), gate]
    cells += [
        number(check.get("shift_max_px"), ".3g"),
        number(check.get("shift_p95_px"), ".3g"),
        number(check.get("oks_min", check.get("iou_min")), ".4f"),
        number(check.get("score_shift_max"), ".2g"),
    ]
    batches = {one["batch_size"]: one for one in bench["batches"]} if bench else {}
    for size in (1, 8):
        one = batches.get(size, {})
        cells += [number(one.get("crops_per_s"), ".3g"), number(one.get("share") and 100 * one["share"], ".0f", " %")]
    return "| " + " | ".join(cells) + " |"


def number(value: float | None, form: str, unit: str = "") -> str:
    return "" if value is None else f"{value:{form}}{unit}"


def markdown(results: dict[Row, dict[str, Any]]) -> str:
    """The table with what it was measured on."""
    heads = ["model", "format", "mode", "MB", "check", "max px", "p95 px", "least OKS or IoU", "score"]
    heads += ["crops/s, batch 1", "of the matrix rate", "crops/s, batch 8", "of the matrix rate"]
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join(["---"] * 3 + ["---:"] + ["---"] + ["---:"] * 8) + " |"]
    lines += [line(row, found) for row, found in results.items()]
    return "\n".join([*rates(results), "", *lines])


def rates(results: dict[Row, dict[str, Any]]) -> list[str]:
    """The machine's own rate, which differs from row to row with what else it does."""
    seen: dict[str, list[float]] = {}
    cores = set()
    for found in results.values():
        for one in (found["bench"] or {}).get("batches", []):
            if one["matrix_tflops"]:
                seen.setdefault(one["matrix_dtype"], []).append(one["matrix_tflops"])
                cores.add(found["bench"]["cores"])
    said = ", ".join(f"{min(rates):.2g} to {max(rates):.2g} TFLOP/s in {dtype}" for dtype, rates in seen.items())
    return [f"Measured on {'/'.join(map(str, sorted(cores)))} cores, whose own matrix rate at the shapes of these "
            f"networks was {said} while they were measured."] if seen else []  # fmt: skip


def replaced(text: str, table: str) -> str:
    """`text` with the table between its marker lines."""
    before, found, rest = text.partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not found or not found_end:
        sys.exit(f"expected the lines {BEGIN} and {END} in the Markdown file, found none; add them")
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


def keep(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


if __name__ == "__main__":
    main()
