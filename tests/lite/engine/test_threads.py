"""Reading ahead and writing behind: order, bounds, and failures that end both sides."""

import threading
import time

import pytest

from lite.engine.threads import ReadAhead, WriteBehind


def _ahead(read, jobs, **options):
    return ReadAhead(
        read, jobs, **{"cost": lambda result: 1, "budget": 4, "num_waiting": 100, "num_threads": 3, **options}
    )


def test_results_come_in_order_however_long_each_takes():
    def read(n):
        time.sleep(0.002 * (n % 3 == 0))
        return n

    with _ahead(read, range(50)) as results:
        assert list(results) == list(range(50))


@pytest.mark.parametrize("limit", [{"budget": 4, "num_waiting": 100}, {"budget": 100, "num_waiting": 4}])
def test_no_more_is_read_than_allowed(limit):
    begun = []
    with _ahead(lambda n: begun.append(n) or n, range(100), num_threads=2, **limit) as results:
        time.sleep(0.1)
        assert 4 <= len(begun) <= 6  # the limit and what two threads may have had in hand
        assert list(results) == list(range(100))


def test_a_failing_read_is_raised_and_ends_the_threads():
    def read(n):
        if n == 5:
            raise ZeroDivisionError
        return n

    with pytest.raises(ZeroDivisionError), _ahead(read, range(100)) as results:
        list(results)
    _wait_for_no_threads("reader")


def test_leaving_early_ends_the_threads():
    with _ahead(lambda n: n, range(100)) as results:
        assert next(iter(results)) == 0
    _wait_for_no_threads("reader")


def test_nothing_to_read():
    with _ahead(lambda n: n, []) as results:
        assert list(results) == []


def test_all_writes_are_done_when_finished():
    done = []
    with WriteBehind(budget=3, num_waiting=3, num_threads=2) as writes:
        for n in range(30):
            writes.submit(lambda n=n: done.append(n), 1)
        writes.finish()
        assert sorted(done) == list(range(30))
    _wait_for_no_threads("writer")


def test_submitting_waits_while_too_much_is_pending():
    gate, submitted = threading.Event(), []

    def submit(writes):
        for n in range(10):
            writes.submit(gate.wait, 1)
            submitted.append(n)

    with WriteBehind(budget=3, num_waiting=100, num_threads=1) as writes:
        thread = threading.Thread(target=submit, args=(writes,))
        thread.start()
        time.sleep(0.1)
        assert len(submitted) == 3
        gate.set()
        thread.join(5)
        writes.finish()
        assert len(submitted) == 10


def test_one_job_above_the_whole_budget_still_runs():
    with WriteBehind(budget=3, num_waiting=3, num_threads=1) as writes:
        done = []
        writes.submit(lambda: done.append(1), 100)
        writes.submit(lambda: done.append(2), 100)
        writes.finish()
        assert done == [1, 2]


def test_a_failing_write_is_raised_by_the_next_call_and_does_not_hang():
    with WriteBehind(budget=2, num_waiting=2, num_threads=1) as writes, pytest.raises(ZeroDivisionError):
        for _ in range(10):
            writes.submit(lambda: 1 / 0, 1)
        writes.finish()
    _wait_for_no_threads("writer")


def _wait_for_no_threads(name):
    until = time.perf_counter() + 3
    while any(thread.name.startswith(name) for thread in threading.enumerate()):
        assert time.perf_counter() < until, "threads are still there"
        time.sleep(0.01)
