"""The lines between worker and sandbox."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backdoor_audit.contract.lifecycle import STAGES, Failure
from tests.toy import toy_spec
from worker.errors import ProtocolError
from worker.sandbox.protocol import (
    Failed,
    Finished,
    FromSandbox,
    Interrupt,
    Limits,
    LineSplitter,
    ModelFolder,
    Progress,
    Request,
    Stopped,
    read_interrupt,
    read_message,
    read_request,
)

MESSAGES: list[FromSandbox] = [
    Progress(stage="extract", fraction=0.5, message="half\nway"),
    Finished(),
    Failed(failure=Failure(code="model_rejected", message="no", hint="yes")),
    Stopped(reason="cancel"),
]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_survives_the_way(message: FromSandbox) -> None:
    line = message.line()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert read_message(line) == message


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"Loading weights: 100%",
        b"[]",
        b'{"kind": "unknown"}',
        b'{"kind": "finished", "extra": 1}',
        b'{"kind": "progress", "stage": "extract", "fraction": 1.5}',
        b'{"kind": "progress", "stage": "extract", "fraction": NaN}',
        b'{"kind": "progress", "stage": "lunch", "fraction": 0.5}',
        b'{"kind": "failed", "failure": {"code": "made_up", "message": ""}}',
        b'{"kind": "finished"' + b" " * 10 + b"\xff}",
    ],
)
def test_what_is_no_message_is_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_message(line)


def test_a_request_survives_the_way() -> None:
    request = Request(
        audit_id="audit_1",
        spec=toy_spec(),
        base=ModelFolder(path=Path("/models/base"), root=Path("/models"), digest="sha256:1"),
        tuned=ModelFolder(path=Path("/models/tuned"), root=Path("/models"), digest="sha256:2"),
        workspace=Path("/data/audits/audit_1"),
        cache=Path("/data/cache"),
        cache_bytes=10,
        device="cpu",
        limits=Limits(memory_bytes=None, file_bytes=1),
        parent_pid=1,
    )
    assert read_request(request.line()) == request
    with pytest.raises(ProtocolError):
        read_request(b"{}")


def test_an_interrupt_survives_the_way() -> None:
    assert read_interrupt(Interrupt(reason="deadline").line()).reason == "deadline"
    with pytest.raises(ProtocolError):
        read_interrupt(b'{"reason": "boredom"}')


@given(
    progress=st.lists(st.builds(Progress, stage=st.sampled_from(STAGES), fraction=st.floats(0, 1)), max_size=8),
    cuts=st.lists(st.integers(1, 50), min_size=1, max_size=40),
)
def test_lines_come_out_whole_however_they_are_cut(progress: list[Progress], cuts: list[int]) -> None:
    stream = b"".join(message.line() for message in progress)
    splitter, lines, position = LineSplitter(), [], 0
    while position < len(stream):
        step = cuts[position % len(cuts)]
        lines += splitter.feed(stream[position : position + step])
        position += step
    assert [read_message(line) for line in lines] == progress


def test_a_line_without_an_end_is_not_collected_for_ever() -> None:
    splitter = LineSplitter(limit=100)
    splitter.feed(b"x" * 100)
    with pytest.raises(ProtocolError, match="more than 100"):
        splitter.feed(b"x")


@pytest.mark.parametrize("code", ["worker_lost", "deadline_exceeded", "model_not_found"])
def test_what_only_the_worker_knows_is_not_taken_from_the_sandbox(code: str) -> None:
    line = f'{{"kind":"failed","failure":{{"code":"{code}","message":"m"}}}}'
    with pytest.raises(ProtocolError):
        read_message(line.encode())


def test_what_a_terminal_would_obey_is_written_out() -> None:
    text = "\x1b]0;owned\x07\n::stop-commands::x\u202e"
    written = r"\x1b]0;owned\x07\n::stop-commands::x\u202e"
    failed = read_message(Failed(failure=Failure(code="internal", message=text, hint=text)).line())
    assert isinstance(failed, Failed)
    assert (failed.failure.message, failed.failure.hint) == (written, written)
    progress = read_message(Progress(stage="train", fraction=0, message=text).line())
    assert isinstance(progress, Progress)
    assert progress.message == written
