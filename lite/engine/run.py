"""`hpe-lite infer`: pictures are read ahead, run in batches on one device, written behind; bad ones are recorded."""

import contextlib
import dataclasses
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from lite import __version__
from lite.artifact import ArtifactSpec
from lite.config import InferConfig
from lite.draw import Style, draw
from lite.engine.outputs import RUN_FILE, plan_outputs
from lite.engine.pipeline import Pipeline
from lite.engine.threads import ReadAhead, WriteBehind
from lite.errors import InputError
from lite.readers import Item, list_pictures, read_frame
from lite.skeletons import Skeleton, load_skeleton
from lite.structures import Frame, Record
from lite.writers import RecordWriter, write_overlay
from lite.writers.records import describe_model, write_run

# Pixels that wait at most, after reading, in a frame batch and before writing: 200 MB each.
PIXEL_BUDGET = 64_000_000
READERS, WRITERS = 2, 2


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
    """Find people and their keypoints in pictures, write one JSON a picture and, unless turned off, an overlay.

    A picture that cannot be read has a JSON with `error` and nobody in it, and is listed in the summary and `run.json`.

    Returns:
        0 when all went well, 1 when some pictures failed.

    Raises:
        HpeLiteError: nothing to read, a model that cannot be used, or a place that cannot be written.
    """
    output = Path(config.output)
    items = list_pictures(config.inputs, config.recursive)
    stems = plan_outputs(items, output, config.inputs)
    if config.checkpoints:
        os.environ["HPE_LITE_CHECKPOINTS"] = config.checkpoints  # where every part looks for weights
    with contextlib.ExitStack() as stack:
        pipeline = stack.enter_context(open_pipeline(config))
        stack.enter_context(_quiet_opencv())
        tally = Tally()
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


def open_pipeline(config: InferConfig) -> Pipeline:
    """The pipeline that the configuration asks for."""
    return Pipeline(
        config.model,
        config.det_checkpoint or config.detector,
        config.device,
        config.mode,
        batch_size=config.batch_size,
        bbox_thr=config.bbox_thr,
        nms_thr=config.nms_thr,
        max_people=config.max_people,
        flip_test=config.flip_test,
        threads=config.threads,
        trust=config.trust,
        det_config=config.det_config,
    )


def run_pictures(
    pipeline: Pipeline, items: Sequence[Item], stems: Sequence[Path], config: InferConfig, tally: Tally
) -> None:
    """Read, run and write every item; results of item n go to `stems[n]` with the endings of their kinds."""
    spec = pipeline.pose.spec
    skeleton = skeleton_of(spec)
    model = {"pose": describe_model(spec), "detector": pipeline.person and describe_model(pipeline.person.spec)}
    writer = RecordWriter(skeleton, model)
    style = Style(parts=config.parts, kpt_thr=config.kpt_thr, radius=config.radius, thickness=config.thickness)
    started = time.perf_counter()
    with (
        _progress(len(items), config.quiet) as advance,
        ReadAhead(
            partial(_read, max_pixels=config.max_pixels),
            items,
            cost=_num_pixels,
            budget=PIXEL_BUDGET,
            num_waiting=2 * config.frame_batch,
            num_threads=READERS,
        ) as reads,
        WriteBehind(budget=PIXEL_BUDGET, num_waiting=4 * config.frame_batch, num_threads=WRITERS) as writes,
    ):
        position = 0
        for batch in frame_batches(reads, config.frame_batch):
            for read, record in zip(batch, _records(pipeline, batch)):
                stem = stems[position]
                writes.submit(partial(_write, writer, style, skeleton, stem, read, record), _num_pixels(read))
                tally.add(record)
                advance(tally)
                position += 1
        writes.finish()
        tally.seconds = time.perf_counter() - started


def frame_batches(reads: Iterable[Frame | Record], most: int) -> Iterator[list[Frame | Record]]:
    """Reads in order, grouped by at most `most` and about `PIXEL_BUDGET` pixels."""
    batch: list[Frame | Record] = []
    pixels = 0
    for read in reads:
        if batch and (len(batch) >= most or pixels + _num_pixels(read) > PIXEL_BUDGET):
            yield batch
            batch, pixels = [], 0
        batch.append(read)
        pixels += _num_pixels(read)
    if batch:
        yield batch


def skeleton_of(spec: ArtifactSpec) -> Skeleton:
    """The network's skeleton; one without names and links where it names none."""
    if spec.skeleton is not None:
        return load_skeleton(spec.skeleton)
    count = next(output.shape[1] for output in spec.outputs if output.name == "keypoints")
    return Skeleton(
        name=f"unnamed{count}",
        keypoint_names=tuple(f"keypoint_{n}" for n in range(count)),
        flip_indices=tuple(range(count)),
        links=(),
        link_colors=(),
        keypoint_colors=((51, 153, 255),) * count,
        oks_sigmas=(),
        upper_body=(),
        lower_body=(),
        parts={},
    )


def _read(item: Item, max_pixels: int) -> Frame | Record:
    """The frame, or the record of a picture that cannot be read."""
    try:
        return read_frame(item, max_pixels)
    except InputError as problem:
        return Record(source=item.source, error=str(problem))


def _records(pipeline: Pipeline, batch: Sequence[Frame | Record]) -> list[Record]:
    """A record for every read of the batch, in order."""
    records = iter(pipeline([read for read in batch if isinstance(read, Frame)]))
    return [next(records) if isinstance(read, Frame) else read for read in batch]


def _write(
    writer: RecordWriter, style: Style, skeleton: Skeleton, stem: Path, read: Frame | Record, record: Record
) -> None:
    if style.parts and isinstance(read, Frame):
        write_overlay(Path(f"{stem}.jpg"), draw(read.pixels, record, skeleton, style))
    writer.write(Path(f"{stem}.json"), record)  # last: where the JSON is, the picture is finished


def _num_pixels(read: Frame | Record) -> int:
    return read.pixels.shape[0] * read.pixels.shape[1] if isinstance(read, Frame) else 0


def _describe_run(config: InferConfig, pipeline: Pipeline, tally: Tally, *, finished: bool) -> dict[str, Any]:
    return {
        "command": "infer",
        "version": __version__,
        "finished": finished,
        "config": dataclasses.asdict(config),
        "model": describe_model(pipeline.pose.spec),
        "detector": pipeline.person and describe_model(pipeline.person.spec),
        "device": pipeline.pose.device,
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
def _quiet_opencv() -> Iterator[None]:
    """OpenCV prints a line for every bad picture; the summary says it better."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
