"""The machine's own rate: one matrix product, timed in turns in a process of its own.

In the process of another runtime torch's threads can end on one core with that runtime's, and a product then takes a
hundred or a thousand times as long as it should. A process that does nothing else, and nothing while the graph runs,
cannot be disturbed so.
"""

import contextlib
import functools
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import torch

import lite
from lite.errors import HpeLiteError


class MatrixElsewhere:
    """Times `(m, k) x (k, n)` on the CPU; one call is one turn.

    Args:
        shape: m, k, n.
        dtype: name of a torch dtype.
        threads: of the product.
        turn_s: a turn lasts at least so long; shorter products are repeated within it.
    """

    slow = False  # never the only call

    def __init__(self, shape: tuple[int, int, int], dtype: str, threads: int, turn_s: float) -> None:
        words = json.dumps({"shape": shape, "dtype": dtype, "threads": threads, "turn_s": turn_s})
        root = str(Path(lite.__file__).parents[1])
        paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lite.engine.matrix_rate", words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": paths},
        )
        self.seconds: list[float] = []
        self()
        self.seconds.clear()  # threads start and memory is touched in the first turn

    def __call__(self) -> None:
        try:
            self.process.stdin.write("turn\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise HpeLiteError("the process that measures the machine's matrix rate ended; is there enough memory?")
        self.seconds += json.loads(answer)

    def median(self) -> float:
        """Seconds of one product."""
        return statistics.median(self.seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError):  # what was not taken when the process ended
            self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def product(shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> functools.partial[torch.Tensor]:
    """The call that is timed; the right factor lies in memory as the weights of a linear layer do."""
    m, k, n = shape
    left = torch.rand(m, k, device=device).to(dtype)
    right = torch.rand(n, k, device=device).to(dtype)
    return functools.partial(torch.mm, left, right.t(), out=torch.empty(m, n, device=device, dtype=dtype))


def main() -> None:
    """Answer every line of the standard input with the seconds of a turn's calls."""
    words = json.loads(sys.argv[1])
    torch.set_num_threads(words["threads"])
    call = product(words["shape"], getattr(torch, words["dtype"]), torch.device("cpu"))
    for _ in sys.stdin:
        seconds: list[float] = []
        while sum(seconds) < words["turn_s"] or not seconds:
            started = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - started)
        print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main()
