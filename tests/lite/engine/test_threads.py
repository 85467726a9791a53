"""Work ahead in threads: order, bounds, and failures that end everything."""

import threading
import time

import pytest

from lite.engine.threads import InOrder


@pytest.fixture
def earlier():
    """The threads there are when a test begins."""
    return set(threading.enumerate())


def _in_order(work, jobs, num_threads=3, num_ahead=6):
    return InOrder(work, jobs, num_threads=num_threads, num_ahead=num_ahead)


def test_results_come_in_order_however_long_each_takes():
    def work(n, stopped):
        time.sleep(0.002 * (n % 3 == 0))
        return n

    with _in_order(work, range(50)) as results:
        assert list(results) == list(range(50))


def test_no_more_is_begun_than_allowed():
    begun = []
    with _in_order(lambda n, stopped: begun.append(n) or n, range(100), num_ahead=6) as results:
        time.sleep(0.1)
        assert len(begun) == 6
        assert list(results) == list(range(100))


def test_jobs_run_side_by_side():
    together = threading.Barrier(3)
    with _in_order(lambda n, stopped: together.wait(5) >= 0, range(3)) as results:
        assert list(results) == [True] * 3


def test_a_failing_job_is_raised_and_ends_the_threads(earlier):
    def work(n, stopped):
        if n == 5:
            raise ZeroDivisionError
        return n

    with pytest.raises(ZeroDivisionError), _in_order(work, range(100)) as results:
        list(results)
    _expect_no_threads(earlier)


def test_leaving_early_ends_the_threads(earlier):
    with _in_order(lambda n, stopped: n, range(100)) as results:
        assert next(iter(results)) == 0
    _expect_no_threads(earlier)


def test_jobs_are_told_to_stop(earlier):
    def work(n, stopped):
        while not stopped.is_set():
            time.sleep(0.005)

    started = time.perf_counter()
    with pytest.raises(KeyboardInterrupt), _in_order(work, range(10)):
        raise KeyboardInterrupt
    _expect_no_threads(earlier)
    assert time.perf_counter() - started < 2


def test_a_job_that_hangs_does_not_keep_the_program(monkeypatch):
    monkeypatch.setattr("lite.engine.threads._LAST_JOBS_S", 0.1)
    gate = threading.Event()
    with (
        pytest.raises(ZeroDivisionError),
        _in_order(lambda n, stopped: gate.wait() if n else 1 / 0, range(4)) as results,
    ):
        list(results)
    gate.set()


def test_nothing_to_do():
    with _in_order(lambda n, stopped: n, []) as results:
        assert list(results) == []


def _expect_no_threads(earlier):
    """None but those of tests before, whose jobs may still be ending."""
    assert not [t for t in threading.enumerate() if t.name.startswith("worker-") and t not in earlier]
