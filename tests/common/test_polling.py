"""Threads that do one thing again and again."""

import threading

import pytest

from common.polling import PollingLoop, retry_pause


class Passes:
    """A step that says what each pass is to do, and lets a test wait for passes."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.count = 0
        self._changed = threading.Condition()

    def __call__(self):
        outcome = self.outcomes.pop(0) if self.outcomes else None
        with self._changed:
            self.count += 1
            self._changed.notify_all()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def wait_for(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: self.count >= count, 30), self.count


def test_it_works_at_once_and_again_until_stopped():
    step = Passes()
    loop = PollingLoop("loop", step, every_s=0.01)
    loop.start()
    step.wait_for(3)
    loop.stop()
    assert not loop.is_alive()


def test_no_error_ends_it():
    step = Passes(OSError("down"), ValueError("a fault of ours"))
    loop = PollingLoop("loop", step, every_s=0.01, outages=(OSError,))
    loop.start()
    step.wait_for(4)
    loop.stop()


def test_a_pass_says_how_long_the_next_pause_is():
    step = Passes(0.0, 0.0, 600.0)
    loop = PollingLoop("loop", step, every_s=600)
    loop.start()
    step.wait_for(3)
    loop.stop()
    assert step.count == 3


def test_waking_ends_a_pause():
    step = Passes()
    loop = PollingLoop("loop", step, every_s=600)
    loop.start()
    step.wait_for(1)
    loop.wake()
    step.wait_for(2)
    loop.stop()
    assert not loop.is_alive()


def test_one_that_was_never_started_can_be_stopped():
    PollingLoop("loop", Passes(), every_s=600).stop()


def test_retries_follow_their_schedule_spread_by_a_tenth():
    assert 5 <= retry_pause([5, 300], 0) <= 5.5
    assert 300 <= retry_pause([5, 300], 1) <= 330
    assert retry_pause([5, 300], 2) is None


@pytest.mark.parametrize("outcome", [OSError("down"), ValueError("a fault of ours")])
def test_after_an_error_it_pauses_for_as_long_as_an_outage_is_given(outcome):
    step = Passes(outcome)
    loop = PollingLoop("loop", step, every_s=600, outage_s=0.01, outages=(OSError,))
    loop.start()
    step.wait_for(2)
    loop.stop()
    assert step.count == 2
