"""Work done ahead in threads, results in order, and every failure handed to the thread that waits for them."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Self, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

# How long leaving waits for jobs that have begun, s.
_LAST_JOBS_S = 5.0
# How often the waiting thread looks up: an interruption may be delivered to a thread that does not wait, s.
_LOOK_UP_S = 0.2


class InOrder(Generic[Job, Result]):
    """Iterates over `work(job)` in order of the jobs while threads are busy with the next ones.

    Leaving the `with` block begins no further job and waits shortly for those that have begun.

    Args:
        work: `(job, stopped) -> result`, runs in the threads; what it raises is raised from the iteration, and nothing
            more is begun. `stopped` is set when results are no longer wanted.
        jobs: what to work on.
        num_threads: threads.
        num_ahead: jobs begun and not yet taken, at most.
    """

    def __init__(
        self, work: Callable[[Job, threading.Event], Result], jobs: Sequence[Job], *, num_threads: int, num_ahead: int
    ) -> None:
        self._work, self._jobs, self._num_ahead = work, jobs, num_ahead
        self._changed = threading.Condition()
        self._done: dict[int, Result] = {}
        self._next = self._taken = 0
        self._problem: BaseException | None = None
        self._stopped = threading.Event()
        # Daemons: a read that hangs (a dead network drive) must not keep the program from ending.
        self._threads = [
            threading.Thread(target=self._run, name=f"worker-{n}", daemon=True)
            for n in range(min(num_threads, len(jobs)))
        ]
        for thread in self._threads:
            thread.start()

    def __iter__(self) -> Iterator[Result]:
        for n in range(len(self._jobs)):
            with self._changed:
                while n not in self._done and self._problem is None:
                    self._changed.wait(_LOOK_UP_S)
                if self._problem is not None:
                    raise self._problem
                result = self._done.pop(n)
                self._taken = n + 1
                self._changed.notify_all()
            yield result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._stopped.set()
            self._changed.notify_all()
        until = time.monotonic() + _LAST_JOBS_S
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0))

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._over() and self._next - self._taken >= self._num_ahead:
                    self._changed.wait()
                if self._over():
                    return
                n = self._next
                self._next += 1
            try:
                result = self._work(self._jobs[n], self._stopped)
            except BaseException as problem:
                with self._changed:
                    self._problem = self._problem or problem
                    self._stopped.set()
                    self._changed.notify_all()
                return
            with self._changed:
                self._done[n] = result
                self._changed.notify_all()

    def _over(self) -> bool:
        return self._stopped.is_set() or self._next >= len(self._jobs)
