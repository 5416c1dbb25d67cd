"""A client that a generator makes of the committed document, against the running service."""

import importlib
import subprocess
import sys
from types import SimpleNamespace

import pytest

from backdoor_audit.contract.lifecycle import Failure
from service.audits.examples import SPECS
from service.openapi_document import committed

pytest.importorskip("openapi_python_client", reason="openapi-python-client is not installed; make venv installs it")


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """The generated package's modules."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "config.yaml").write_text("post_hooks: []\npackage_name_override: generated_audit_client\n")
    made = subprocess.run(
        [
            *(sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"),
            *("--path", str(committed.FOLDER / committed.DOCUMENT), "--config", str(folder / "config.yaml")),
            *("--output-path", str(folder / "generated_audit_client"), "--fail-on-warning"),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    sys.path.insert(0, str(folder))
    try:
        yield SimpleNamespace(
            client=importlib.import_module("generated_audit_client"),
            models=importlib.import_module("generated_audit_client.models"),
            call=lambda name: importlib.import_module(f"generated_audit_client.api.{name}"),
        )
    finally:
        sys.path.remove(str(folder))


def test_it_submits_polls_and_fetches(served, generated):
    spec = generated.models.AuditSpec.from_dict(SPECS["spec_with_set"]["value"])
    with generated.client.Client(base_url=str(served.http.base_url)) as client:
        filed = generated.call("audits.create_audit").sync_detailed(client=client, body=spec, idempotency_key="one")
        assert filed.status_code == 202
        audit_id = filed.parsed.id
        assert filed.parsed.spec.preset == "quick"
        again = generated.call("audits.create_audit").sync(client=client, body=spec, idempotency_key="one")
        assert again.id == audit_id

        early = generated.call("reports.get_report").sync(client=client, audit_id=audit_id)
        assert (type(early).__name__, early.code) == ("Problem", "report_not_ready")
        report = served.succeed(audit_id)
        polled = generated.call("audits.get_audit").sync(client=client, audit_id=audit_id)
        assert (polled.status, polled.verdict) == ("succeeded", "flagged")
        fetched = generated.call("reports.get_report").sync(client=client, audit_id=audit_id)
        assert fetched.verdict == report.verdict
        assert fetched.gates.behaviour.output_kl == report.gates.behaviour.output_kl
        assert [decoy.string for decoy in fetched.decoys] == [decoy.string for decoy in report.decoys]
        page = generated.call("reports.list_features").sync(client=client, audit_id=audit_id, min_bis=0.5)
        assert page.features[0].explanation.firing[0].condition == "triggered"
        listed = generated.call("audits.list_audits").sync(client=client)
        assert [audit.id for audit in listed.audits] == [audit_id]


def test_it_reads_failures_and_problems(served, generated):
    audit_id = served.file()
    served.dependencies.ledger.fail(
        served.claim(audit_id), Failure(code="identical_models", message="same", hint="other")
    )
    with generated.client.Client(base_url=str(served.http.base_url)) as client:
        found = generated.call("audits.get_audit").sync(client=client, audit_id=audit_id)
        assert (found.status, found.failure.code, found.verdict) == ("failed", "identical_models", None)
        missing = generated.call("audits.get_audit").sync(client=client, audit_id="audit_" + "0" * 26)
        assert (missing.status, missing.code) == (404, "audit_not_found")
