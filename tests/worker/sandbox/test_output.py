"""What a sandbox prints reaches the worker's log as the worker's words, and in bounds."""

import os

import structlog

from worker.sandbox.output import MAX_BYTES, MAX_LINE_BYTES, Output


def logged(printed: bytes) -> list[structlog.typing.EventDict]:
    reading, writing = os.pipe()
    with structlog.testing.capture_logs() as lines:
        output = Output(reading)
        output.start()
        with os.fdopen(writing, "wb") as stream:
            stream.write(printed)
        output.finish()
    return list(lines)


def test_every_line_is_tagged_and_what_a_terminal_obeys_is_written_out() -> None:
    forged = b'{"event": "attempt.ended", "level": "info"}\n\x1b]0;owned\x07\r::stop-commands::x\xff\nno end'
    lines = logged(forged)
    assert {line["event"] for line in lines} == {"sandbox.said"}
    assert [line["line"] for line in lines] == [
        '{"event": "attempt.ended", "level": "info"}',
        r"\x1b]0;owned\x07\r::stop-commands::x" + "\ufffd",
        "no end",
    ]


def test_lines_and_all_together_are_bounded_and_nobody_waits() -> None:
    lines = logged(b"x" * 3_000_000 + b"\n" * 1_000_000)
    said = [line["line"] for line in lines if line["event"] == "sandbox.said"]
    assert max(map(len, said)) <= MAX_LINE_BYTES
    assert sum(map(len, said)) <= MAX_BYTES
    assert lines[-1]["event"] == "sandbox.muted"
    assert lines[-1]["dropped_bytes"] > 1_900_000


def test_a_flood_of_short_lines_is_bounded() -> None:
    lines = logged(b"y\n" * 500_000)
    assert len(lines) == 5_001
