"""`hpe-lite infer`: pictures in batches through one device by a few workers; bad ones are recorded."""

import contextlib
import dataclasses
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import torch

from lite import __version__
from lite.config import InferConfig
from lite.engine.outputs import RUN_FILE, plan_outputs
from lite.engine.pipeline import Pipeline
from lite.engine.plan import make_plan
from lite.engine.result_writer import ResultWriter, describe_networks
from lite.engine.tasks import TaskOptions
from lite.engine.threads import InOrder
from lite.errors import InputError
from lite.evaluate.config import EvalConfig
from lite.group import Grouping
from lite.label_sets import load_label_set
from lite.readers import Item, list_pictures, read_frame
from lite.structures import Frame, Record, Result
from lite.writers.records import describe_model, write_run

# Pixels of the frames a worker holds, unless one alone has more: 100 MB, and 30 MB of their label maps.
PIXEL_BUDGET = 32_000_000
MAP_PICTURES = frozenset({"heatmaps", "tags"})  # pictures of their own


@dataclass(kw_only=True)
class Tally:
    """What a run has done so far."""

    pictures: int = 0
    people: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, record: Record) -> None:
        self.pictures += 1
        self.people += len(record.people)
        if record.error is not None:
            self.failed.append((record.source, record.error))

    def summary(self, output: Path) -> str:
        rate = self.pictures / self.seconds if self.seconds else 0.0
        text = (
            f"{self.pictures} pictures, {self.people} people, {len(self.failed)} failed in {self.seconds:.1f} s "
            f"({rate:.1f} pictures/s, start-up not counted); results in {output}"
        )
        return "\n".join([text, *(f"failed: {source}: {why}" for source, why in self.failed)])


def infer(config: InferConfig) -> int:
    """Run networks on pictures, write one JSON a picture and, unless turned off, an overlay.

    A picture that cannot be read has a JSON with `error` and nobody in it, and is listed in the summary and `run.json`.

    Returns:
        0 when all went well, 1 when some pictures failed.

    Raises:
        HpeLiteError: nothing to read, a model that cannot be used, or a place that cannot be written.
    """
    output = Path(config.output)
    items = list_pictures(config.inputs, config.recursive)
    stems = plan_outputs(items, output, config.inputs)
    with contextlib.ExitStack() as stack:
        pipeline = stack.enter_context(open_pipeline(config))
        stack.enter_context(quiet_opencv())
        tally = Tally()
        if not config.quiet:
            print("\n".join(pipeline.describe()))
        describe = partial(_describe_run, config, pipeline)
        write_run(output / RUN_FILE, describe(tally, finished=False))
        try:
            run_pictures(pipeline, items, stems, config, tally)
        finally:
            finished = tally.pictures == len(items)
            write_run(output / RUN_FILE, describe(tally, finished=finished))
    if not config.quiet:
        print(tally.summary(output))
    elif tally.failed:
        print("\n".join(f"failed: {source}: {why}" for source, why in tally.failed), file=sys.stderr)
    return 1 if tally.failed else 0


def open_pipeline(config: InferConfig | EvalConfig) -> Pipeline:
    """The pipeline that the configuration asks for."""
    if config.checkpoints:
        os.environ["HPE_LITE_CHECKPOINTS"] = config.checkpoints  # where every part looks for weights
    return Pipeline(
        config.models,
        config.det_checkpoint or config.detector,
        config.device,
        config.mode,
        backend=config.backend,
        batch_size=config.batch_size,
        bbox_thr=config.bbox_thr,
        nms_thr=config.nms_thr,
        max_people=config.max_people,
        flip_test=config.flip_test,
        threads=config.threads,
        trust=config.trust,
        det_config=config.det_config,
        labels=load_label_set(config.labels) if config.labels else None,
        options=TaskOptions(
            grouping=_grouping(config),
            resize=config.label_resize,
            top=config.top,
        ),
        pictures=config.parts & MAP_PICTURES if isinstance(config, InferConfig) else frozenset(),
    )


def _grouping(config: InferConfig | EvalConfig) -> Grouping:
    most = {} if config.max_people is None else {"max_people": config.max_people}
    return Grouping(
        det_thr=config.det_thr,
        tag_thr=config.tag_thr,
        person_thr=config.person_thr,
        refine=config.refine,
        keep=config.keep_people,
        rounded=config.rounded_tags,
        merge_equal_tags=config.merge_equal_tags,
        **most,
    )


def run_pictures(
    pipeline: Pipeline, items: Sequence[Item], stems: Sequence[Path], config: InferConfig, tally: Tally
) -> None:
    """Read, run and write every item; results of item n go to `stems[n]` with the endings of their kinds.

    Each worker takes a few pictures and does everything for them, so no pixels wait between threads.
    """
    specs, device = [task.spec for task in pipeline.tasks], pipeline.pose.device
    plan = make_plan(specs, device, len(items), threads=config.threads, frame_batch=config.frame_batch)
    write = ResultWriter(pipeline, config)
    networks = threading.Semaphore(plan.at_once)

    def work(job: Sequence[tuple[Item, Path]], stopped: threading.Event) -> list[Record]:
        torch.get_num_threads()  # a new thread takes over the setting only when torch is asked something
        done: list[Record] = []
        for batch in frame_batches(_read(item, config.max_pixels) for item, _ in job):
            with networks:
                results = _results(pipeline, batch)
            for read, result in zip(batch, results):
                if stopped.is_set():
                    return done
                write(job[len(done)][1], read, result)
                done.append(result.record)
        return done

    places = list(zip(items, stems))
    jobs = [places[start : start + plan.frame_batch] for start in range(0, len(places), plan.frame_batch)]
    started = time.perf_counter()
    with (
        _progress(len(items), config.quiet) as advance,
        network_threads(plan.network_threads),
        InOrder(work, jobs, num_threads=plan.workers, num_ahead=4 * plan.workers) as results,
    ):
        for records in results:
            for record in records:
                tally.add(record)
            tally.seconds = time.perf_counter() - started
            advance(tally)


def frame_batches(reads: Iterable[Frame | Record]) -> Iterator[list[Frame | Record]]:
    """Reads in order, cut where about `PIXEL_BUDGET` pixels are together."""
    batch: list[Frame | Record] = []
    pixels = 0
    for read in reads:
        size = read.pixels.shape[0] * read.pixels.shape[1] if isinstance(read, Frame) else 0
        if batch and pixels + size > PIXEL_BUDGET:
            yield batch
            batch, pixels = [], 0
        batch.append(read)
        pixels += size
    if batch:
        yield batch


def _read(item: Item, max_pixels: int) -> Frame | Record:
    """The frame, or the record of a picture that cannot be read."""
    try:
        return read_frame(item, max_pixels)
    except InputError as problem:
        return Record(source=item.source, error=str(problem))


def _results(pipeline: Pipeline, batch: Sequence[Frame | Record]) -> list[Result]:
    """A result for every read of the batch, in order."""
    results = iter(pipeline.results([read for read in batch if isinstance(read, Frame)]))
    return [next(results) if isinstance(read, Frame) else Result(record=read) for read in batch]


def _describe_run(config: InferConfig, pipeline: Pipeline, tally: Tally, *, finished: bool) -> dict[str, Any]:
    return {
        "command": "infer",
        "version": __version__,
        "finished": finished,
        "config": dataclasses.asdict(config),
        "model": describe_model(pipeline.pose.spec),
        "networks": describe_networks(pipeline),
        "detector": pipeline.person and describe_model(pipeline.person.spec),
        "device": pipeline.pose.device,
        "runs": pipeline.describe(),
        "pictures": tally.pictures,
        "people": tally.people,
        "seconds": round(tally.seconds, 3),
        "failed": [{"source": source, "error": why} for source, why in tally.failed],
    }


@contextlib.contextmanager
def _progress(total: int, quiet: bool) -> Iterator[Any]:
    """Gives a function to call with the tally after every picture; draws nothing unless a person watches."""
    if quiet or not sys.stderr.isatty():
        yield lambda tally: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        bar, started = bars.add_task("", total=total), time.perf_counter()

        def advance(tally: Tally) -> None:
            seconds = time.perf_counter() - started
            rates = f"{tally.pictures / seconds:.1f} pictures/s  {tally.people / seconds:.1f} people/s"
            bars.update(bar, completed=tally.pictures, description=rates)

        yield advance


@contextlib.contextmanager
def network_threads(count: int) -> Iterator[None]:
    """Torch's threads inside one forward pass."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def quiet_opencv() -> Iterator[None]:
    """OpenCV prints a line for every bad picture, which the summary says better, and its threads hinder our workers."""
    level, threads = cv2.utils.logging.getLogLevel(), cv2.getNumThreads()
    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
        cv2.setNumThreads(threads)
