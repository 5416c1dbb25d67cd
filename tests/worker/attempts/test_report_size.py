"""A report is bounded before it is parsed: code that took a sandbox over may have written it."""

from collections.abc import Callable
from typing import Any

import pytest

from jobs.ledger import Ledger
from jobs.records import Claim
from tests.toy import toy_spec
from tests.worker.attempts.test_report_check import DIGESTS, report_for
from worker.attempts.artifacts import MAX_REPORT_BYTES, MAX_REPORT_VALUES, AttemptArtifacts
from worker.attempts.context import WorkerContext
from worker.sandbox.protocol import REPORT_FILE, REPORT_FOLDER


@pytest.fixture
def claim(ledger: Ledger) -> Claim:
    claimed = ledger.claim(ledger.submit(toy_spec(), owner="me").audit.id, worker="w")
    assert claimed is not None
    return claimed


@pytest.fixture
def read(claim: Claim, make_context: Callable[..., WorkerContext]) -> Callable[..., Any]:
    """What the worker takes of a report with these warnings."""
    artifacts = AttemptArtifacts(make_context(), claim, why_stop=lambda: None, report_progress=lambda _: None)

    def read(*warnings: str, notes: tuple[str, ...] = ()) -> Any:
        report = report_for(claim).model_copy(update={"warnings": warnings})
        with artifacts.folder.create(REPORT_FOLDER) as folder:
            (folder / REPORT_FILE).write_text(report.model_dump_json())
        return artifacts.read_report(DIGESTS, notes=notes, within_s=10)

    return read


def test_a_long_report_is_read(read: Callable[..., Any]) -> None:
    assert len(read("x" * (MAX_REPORT_BYTES - 2**20)).warnings) == 1


def test_a_report_past_the_bound_is_not(read: Callable[..., Any]) -> None:
    assert read("x" * MAX_REPORT_BYTES) is None


def test_a_report_of_many_values_is_read(read: Callable[..., Any]) -> None:
    assert len(read(*[""] * (MAX_REPORT_VALUES - 10_000)).warnings) == MAX_REPORT_VALUES - 10_000


def test_a_report_of_too_many_values_is_not(read: Callable[..., Any]) -> None:
    """Eleven million empty warnings fit into the bytes, and take six gigabytes to parse."""
    assert read(*[""] * MAX_REPORT_VALUES) is None


def test_what_the_worker_has_to_say_is_said_whatever_the_sandbox_wrote(read: Callable[..., Any]) -> None:
    assert read("one", notes=("one", "two")).warnings == ("one", "two")
