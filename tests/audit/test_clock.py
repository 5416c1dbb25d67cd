import pytest

from audit.clock import StageClock, part
from audit.errors import Cancelled


class Sink:
    def __init__(self):
        self.heard = []

    def progress(self, stage, fraction, message=""):
        self.heard.append((stage, fraction, message))
        if message == "stop":
            raise Cancelled("stop")


def test_a_fraction_never_decreases_and_a_stage_ends_at_one():
    sink = Sink()
    clock = StageClock(sink)
    with clock.stage("train") as progress:
        for fraction in (0.5, 0.2, 7.0):
            progress(fraction, "m")
    assert sink.heard == [
        ("train", 0.0, ""), ("train", 0.5, "m"), ("train", 0.5, "m"), ("train", 1.0, "m"), ("train", 1.0, "")
    ]  # fmt: skip


def test_a_batch_repeats_the_last_progress():
    sink = Sink()
    clock = StageClock(sink)
    clock.tick(10)
    assert sink.heard == []
    with clock.stage("confirm") as progress:
        progress(0.4, "m")
        clock.tick(10)
    assert sink.heard[1:3] == [("confirm", 0.4, "m")] * 2


def test_a_stage_that_is_stopped_is_timed_and_does_not_end_at_one():
    sink = Sink()
    clock = StageClock(sink)
    with pytest.raises(Cancelled), clock.stage("extract") as progress:
        progress(0.3, "stop")
    assert clock.seconds["extract"] >= 0
    assert sink.heard[-1] == ("extract", 0.3, "stop")


def test_a_part_takes_its_share_of_the_stage():
    heard = []
    progress = part(lambda fraction, message: heard.append((fraction, message)), 0.5, 0.9)
    progress(0.0, "a")
    progress(0.5, "b")
    progress(1.0, "c")
    assert heard == [(0.5, "a"), (pytest.approx(0.7), "b"), (0.9, "c")]
