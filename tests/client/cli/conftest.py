"""What tests of the command share."""

from collections.abc import Callable

import pytest

from backdoor_audit.cli.main import run

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run_command(capfd: pytest.CaptureFixture[str]) -> Command:
    """Run the command; gives exit code, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()  # what the ledger in this process has logged
        code = run([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return call
