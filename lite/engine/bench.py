"""`hpe-lite bench`: seconds of each stage one after the other, and the rate of a whole run side by side."""

import contextlib
import dataclasses
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lite.config import BenchConfig, InferConfig
from lite.engine.outputs import plan_outputs
from lite.engine.pipeline import Pipeline
from lite.engine.plan import Plan, make_plan, usable_cores
from lite.engine.result_writer import ResultWriter
from lite.engine.run import Tally, network_threads, open_pipeline, quiet_opencv, run_pictures
from lite.errors import InputError
from lite.readers import Item, list_pictures, read_frame


class Stopwatch:
    """Adds up wall-clock seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - started


def bench(config: BenchConfig) -> int:
    """Measure and print; results of the pictures go to a folder that is deleted.

    Returns:
        0, or 1 when some pictures could not be read.
    """
    items = list_pictures(config.inputs, config.recursive)
    with tempfile.TemporaryDirectory() as folder, open_pipeline(config.infer(folder)) as pipeline, quiet_opencv():
        report = measure(pipeline, items, config.infer(folder), config.repeat)
    if config.json:
        print(json.dumps(report, indent=2))
    else:
        print(_table(report))
    return 1 if report["failed"] else 0


def measure(pipeline: Pipeline, items: list[Item], config: InferConfig, repeat: int = 1) -> dict[str, Any]:
    """Stage seconds and rates over the items; the networks have run once before the clocks start.

    Returns:
        `pictures`, `people`, `failed` in one pass; `stages_s`: seconds of each stage in the fastest of `repeat` passes
        of a single worker; `run_s`, `pictures_per_s`, `people_per_s`: the fastest whole run with all workers.
    """
    stems = plan_outputs(items, Path(config.output), config.inputs)
    specs, device = [task.spec for task in pipeline.tasks], pipeline.pose.device
    plan = make_plan(specs, device, len(items), threads=config.threads, frame_batch=config.frame_batch)
    with network_threads(plan.network_threads):
        _one_by_one(pipeline, items[: plan.frame_batch], stems, config, plan)  # first calls compile and allocate
        passes = [_one_by_one(pipeline, items, stems, config, plan) for _ in range(repeat)]
    tallies = []
    for _ in range(repeat):
        tallies.append(Tally())
        run_pictures(pipeline, items, stems, config, tallies[-1])
    best = min(tallies, key=lambda tally: tally.seconds)
    return {
        "model": " and ".join(spec.model for spec in specs),
        "detector": pipeline.person.spec.model if pipeline.person else None,
        "device": device,
        "cores": usable_cores(),
        "plan": dataclasses.asdict(plan),
        "batch_size": pipeline.batch_size,
        "pictures": best.pictures,
        "people": best.people,
        "failed": len(best.failed),
        "stages_s": min(passes, key=lambda stages: sum(stages.values())),
        "run_s": best.seconds,
        "pictures_per_s": best.pictures / best.seconds,
        "people_per_s": best.people / best.seconds,
    }


def _one_by_one(
    pipeline: Pipeline, items: list[Item], stems: list[Path], config: InferConfig, plan: Plan
) -> dict[str, float]:
    """A run by one worker, with a clock at every stage."""
    watch, write = Stopwatch(), ResultWriter(pipeline, config)
    size = plan.frame_batch
    for start in range(0, len(items), size):
        frames, places = [], []
        for item, stem in zip(items[start : start + size], stems[start : start + size]):
            with watch("read"), contextlib.suppress(InputError):
                frames.append(read_frame(item, config.max_pixels))
                places.append(stem)
        results = pipeline.results(frames, watch)
        with watch("write"):
            for stem, frame, result in zip(places, frames, results):
                write(stem, frame, result)
    return dict(watch.seconds)


def _table(report: dict[str, Any]) -> str:
    total = sum(report["stages_s"].values())
    pictures = max(report["pictures"], 1)
    width = max(map(len, report["stages_s"]), default=0) + 2
    lines = [
        f"{report['model']} after {report['detector'] or 'whole pictures'} on {report['device']}, "
        f"{report['cores']} cores: {report['pictures']} pictures, {report['people']} people, {report['failed']} failed",
        "one worker, stage after stage:",
        *(
            f"  {stage:<{width}}{1000 * seconds / pictures:8.2f} ms a picture  {100 * seconds / total:5.1f} %"
            for stage, seconds in report["stages_s"].items()
        ),
        f"  {'all':<{width}}{1000 * total / pictures:8.2f} ms a picture",
        f"whole run, {report['plan']['workers']} workers: {report['run_s']:.2f} s, "
        f"{report['pictures_per_s']:.1f} pictures/s, {report['people_per_s']:.1f} people/s",
    ]
    return "\n".join(lines)
