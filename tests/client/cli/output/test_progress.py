import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from backdoor_audit.cli.output.progress import Watch
from backdoor_audit.client.responses import Audit


def _audit(status="running", stage="extract", progress=0.0, **more):
    return Audit(id="audit_1", status=status, stage=stage, progress=progress, **more)


def _shown(audits, **console):
    file = io.StringIO()
    with Watch(Console(file=file, width=100, color_system=None, **console)) as watch:
        for audit in audits:
            watch(audit)
    return file.getvalue()


def test_plain_lines_come_with_a_new_stage_or_a_tenth_and_not_between():
    steps = [_audit(progress=0.01 * hundredths) for hundredths in range(31)]
    lines = _shown([_audit("queued", None), *steps, _audit(stage="train", progress=0.31)]).splitlines()
    assert [" ".join(line.split()[1:]) for line in lines] == [
        "queued 0%",
        "extract 0%",
        "extract 10%",
        "extract 20%",
        "extract 30%",
        "train 31%",
    ]


def test_a_second_attempt_is_said_and_foreign_text_cannot_steer():
    text = _shown([_audit(attempt=2, message="[red]\x1b[2J")])
    assert "attempt 2: [red]\\x1b[2J" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("message", ["12 of 48", "[/] [bold]"])
def test_a_terminal_gets_a_bar(message):
    text = _shown([_audit(progress=0.5, message=message)], force_terminal=True)
    assert "extract" in text
    assert "50%" in text
    assert message in text


def test_the_place_in_the_queue_and_the_time_left_are_said():
    started = datetime.now(UTC) - timedelta(minutes=2)
    waiting = {"status": "queued", "stage": None, "expected_s": 240.0}
    text = _shown(
        [
            _audit(queue_position=3, **waiting),
            _audit(queue_position=2, **waiting),
            _audit(started_at=started, expected_s=240.0),
            _audit("running", "train", started_at=started),
            _audit("running", "confirm", started_at=started, expected_s=60.0),
        ]
    )
    assert [line.split("%  ")[1].strip() for line in text.splitlines()] == [
        "place 3 in the queue, takes about 4 min once started",
        "place 2 in the queue, takes about 4 min once started",
        "2 min so far, about 2 min left",
        "2 min so far",
        "2 min so far, longer than usual",
    ]
