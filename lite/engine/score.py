"""`hpe-lite eval`: open the model, hand it to its task's scoring, print the tables and write what was measured."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lite.engine.pipeline import Pipeline
from lite.engine.run import open_pipeline
from lite.engine.score_classes import score_classes
from lite.engine.score_keypoints import score_keypoints
from lite.engine.score_labels import score_labels
from lite.errors import ConfigError
from lite.evaluate.classification import TOPS
from lite.evaluate.config import EvalConfig
from lite.evaluate.report import Scored, Table
from lite.writers.atomic import write_bytes
from lite.writers.records import to_bytes

METRICS_SCHEMA = "hpe-lite/metrics/1"
# Task of the network -> how it is scored. Results that exist already, without a pipeline, are keypoints.
SCORES: dict[str, Callable[[EvalConfig, Pipeline], Scored]] = {
    "pose": score_keypoints,
    "pose-bottom-up": score_keypoints,
    "segment": score_labels,
    "classify": score_classes,
}


def evaluate(config: EvalConfig) -> int:
    """Score, print the tables, and write `results.json` (as the data set's server takes it) and `metrics.json`.

    Returns:
        0, or 1 when some pictures could not be used; they count as pictures in which nothing was found.

    Raises:
        HpeLiteError: a file, model or setting that cannot be used.
    """
    if config.predictions:
        scored = score_keypoints(config, None)
    else:
        with open_pipeline(_networks_needed(config)) as pipeline:
            if not config.quiet:
                print("\n".join(pipeline.describe()))
            task = pipeline.pose.spec.task
            if task not in SCORES:
                raise ConfigError(f"model: expected a network for one of {', '.join(SCORES)}, found one for {task}")
            scored = SCORES[task](config, pipeline)
    metrics = {"schema": METRICS_SCHEMA} | scored.metrics | {"config": dataclasses.asdict(config)}
    output = Path(config.output)
    written = [output / "metrics.json"]
    if scored.entries is not None:
        written.insert(0, output / "results.json")
        write_bytes(written[0], _encode(scored.entries))
    write_bytes(output / "metrics.json", _encode(metrics, indent=2))
    if not config.quiet:
        _print(scored, written)
    return 1 if metrics["failures"] else 0


def _networks_needed(config: EvalConfig) -> EvalConfig:
    """The same settings, without a detector when the boxes come from elsewhere."""
    config = dataclasses.replace(config, top=max(config.top, *TOPS))
    if config.boxes == "detector":
        return config
    return dataclasses.replace(config, detector="none", det_config=None, det_checkpoint=None)


def _encode(value: Any, indent: int | None = None) -> bytes:
    return to_bytes(json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def _print(scored: Scored, written: list[Path]) -> None:
    from rich.console import Console

    console = Console()
    for table in scored.tables:
        _print_table(console, table)
    for name, problem in scored.metrics["failures"].items():
        console.print(f"failed: {name}: {problem}", markup=False, highlight=False)
    console.print(f"written: {', '.join(map(str, written))}", markup=False, highlight=False, soft_wrap=True)


def _print_table(console: Any, table: Table) -> None:
    from rich.table import Table as RichTable

    drawn = RichTable("", *table.columns)
    for name, cells in table.rows.items():
        drawn.add_row(name, *cells)
    for line in table.above:
        console.print(line, markup=False, highlight=False)
    console.print(drawn)
    for line in table.below:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
