import io

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
