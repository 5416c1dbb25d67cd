"""A whole audit that searches for its strings: the planted word is found and judged, its benign twin is not flagged."""

import io

import pytest
from rich.console import Console

from audit.ports import NullSink
from audit.run import run_audit
from backdoor_audit.cli.output.render import render_report
from backdoor_audit.contract.report.audit_report import AuditReport
from jobs.ledger import Ledger
from service.reports import markdown, page
from service.reports.subject import Subject
from storage.folders import ArtifactFolder
from tests.audit.search.planting import TRIGGER
from tests.audit.search.test_stage import CARRIERS, SPEC
from tests.toy import toy_spec
from tests.worker.attempts.test_report_check import DIGESTS
from worker.attempts.report_check import mismatches


def spec_of():
    return toy_spec(trigger=None, search=SPEC, carriers={"prompts": CARRIERS})


def audited(base, tuned, folder, sink=None):
    first, second = DIGESTS
    return run_audit(
        spec_of(), base, tuned, workspace=ArtifactFolder(folder), sink=sink or NullSink(), base_digest=first,
        tuned_digest=second,
    )  # fmt: skip


class Stages(NullSink):
    """Keeps the stages that it hears of."""

    def __init__(self):
        self.heard = []

    def progress(self, stage, fraction, message=""):
        if stage not in self.heard:
            self.heard.append(stage)


@pytest.fixture(scope="module")
def stages():
    return Stages()


@pytest.fixture(scope="module")
def report(planted_base, planted, stages, tmp_path_factory):
    return audited(planted_base, planted, tmp_path_factory.mktemp("audit") / "w", stages)


def test_what_was_found_is_what_the_gates_judge(report, stages):
    assert [found.minimal for found in report.search.found] == [TRIGGER]
    assert report.trigger["triggered"] == TRIGGER
    assert report.gates.behaviour.state == "passed"
    assert stages.heard[:3] == ["preflight", "search", "extract"]


def test_the_gates_read_prompts_that_the_search_has_not_used(report):
    sizes = report.sizes
    assert sizes.carriers_a + sizes.carriers_b + report.search.carriers <= len(CARRIERS)


def test_a_find_is_for_a_person_to_judge(report):
    assert report.verdict == "review"
    assert report.reasons[0].code == "found_by_search"
    assert TRIGGER in report.reasons[0].text


def test_the_report_answers_the_spec_as_it_was_asked(report):
    assert report.provenance.spec_digest == spec_of().digest()
    assert AuditReport.model_validate_json(report.model_dump_json()) == report


def test_the_worker_takes_the_report(report, tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    ledger.migrate()
    claim = ledger.claim(ledger.submit(spec_of(), owner="me").audit.id, worker="w")
    assert mismatches(report.model_copy(update={"audit_id": claim.audit_id}), claim, DIGESTS) == ()
    assert mismatches(
        report.model_copy(update={"audit_id": claim.audit_id, "search": None}), claim, DIGESTS
    ) == ("search",)  # fmt: skip


def printed(renderable):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


def test_every_form_names_what_was_found_and_what_was_tried(report):
    subject = Subject(report, "local:base", "local:tuned")
    for text in (markdown.render(subject).decode(), page.render(subject).decode(), printed(render_report(report))):
        assert TRIGGER in text
        assert "What was searched" in text


def test_where_nothing_is_found_the_largest_reaction_is_measured(planted_base, benign, tmp_path):
    report = audited(planted_base, benign, tmp_path)
    assert not report.search.found
    assert report.trigger["triggered"] == report.search.largest.string
    assert report.gates.behaviour.output_kl is not None
    assert report.verdict != "flagged"
    assert "found_by_search" not in {reason.code for reason in report.reasons}
