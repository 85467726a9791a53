"""Reading ahead and writing behind in threads, bounded, every failure handed to the thread that runs the device."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Self, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

# How long the end of a run waits for writes that have begun, s.
_LAST_WRITES_S = 10.0


class ReadAhead(Generic[Job, Result]):
    """Iterates over `read(job)` in order of the jobs while threads work on the next ones.

    Args:
        read: runs in the threads; what it raises is raised from the iteration.
        jobs: what to read.
        cost: size of a result, in the unit of `budget`.
        budget: no further job is begun while the results that wait cost this much.
        num_waiting: nor while this many jobs are begun and not yet taken.
        num_threads: threads.
    """

    def __init__(
        self,
        read: Callable[[Job], Result],
        jobs: Sequence[Job],
        *,
        cost: Callable[[Result], int],
        budget: int,
        num_waiting: int,
        num_threads: int,
    ) -> None:
        self._read, self._jobs, self._cost = read, jobs, cost
        self._budget, self._num_waiting = budget, num_waiting
        self._changed = threading.Condition()
        self._done: dict[int, Result] = {}
        self._next = self._taken = self._waiting = 0
        self._problem: BaseException | None = None
        self._stopped = False
        # Daemons: a read that hangs (a dead network drive) must not keep the program from ending.
        for n in range(min(num_threads, max(len(jobs), 1))):
            threading.Thread(target=self._work, name=f"reader-{n}", daemon=True).start()

    def __iter__(self) -> Iterator[Result]:
        for n in range(len(self._jobs)):
            with self._changed:
                while n not in self._done and self._problem is None:
                    self._changed.wait()
                if self._problem is not None:
                    raise self._problem
                result = self._done.pop(n)
                self._taken = n + 1
                self._waiting -= self._cost(result)
                self._changed.notify_all()
            yield result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._over() and (
                    self._waiting >= self._budget or self._next - self._taken >= self._num_waiting
                ):
                    self._changed.wait()
                if self._over():
                    return
                n = self._next
                self._next += 1
            try:
                result = self._read(self._jobs[n])
                cost = self._cost(result)
            except BaseException as problem:
                with self._changed:
                    self._problem = self._problem or problem
                    self._changed.notify_all()
                return
            with self._changed:
                self._done[n] = result
                self._waiting += cost
                self._changed.notify_all()

    def _over(self) -> bool:
        return self._stopped or self._problem is not None or self._next >= len(self._jobs)


class WriteBehind:
    """Runs jobs in threads, at most `budget` of them by cost waiting.

    `submit` and `finish` raise what a job raised; after that no further job is begun. Leaving the `with` block drops
    jobs that have not begun and waits shortly for those that have.
    """

    def __init__(self, *, budget: int, num_waiting: int, num_threads: int) -> None:
        self._budget, self._num_waiting = budget, num_waiting
        self._changed = threading.Condition()
        self._jobs: deque[tuple[Callable[[], None], int]] = deque()
        self._pending = self._cost = 0
        self._problem: BaseException | None = None
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._work, name=f"writer-{n}", daemon=True) for n in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Callable[[], None], cost: int = 0) -> None:
        """Queue a job; waits while too much is pending."""
        with self._changed:
            while (
                self._problem is None
                and self._pending
                and (self._cost >= self._budget or self._pending >= self._num_waiting)
            ):
                self._changed.wait()
            self._raise()
            self._jobs.append((job, cost))
            self._pending += 1
            self._cost += cost
            self._changed.notify_all()

    def finish(self) -> None:
        """Wait until every job is done."""
        with self._changed:
            while self._problem is None and self._pending:
                self._changed.wait()
            self._raise()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(_LAST_WRITES_S)

    def _raise(self) -> None:
        if self._problem is not None:
            raise self._problem

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._jobs and not self._stopped and self._problem is None:
                    self._changed.wait()
                if self._stopped or self._problem is not None:
                    return
                job, cost = self._jobs.popleft()
            try:
                job()
            except BaseException as problem:
                with self._changed:
                    self._problem = self._problem or problem
                    self._changed.notify_all()
                return
            with self._changed:
                self._pending -= 1
                self._cost -= cost
                self._changed.notify_all()
