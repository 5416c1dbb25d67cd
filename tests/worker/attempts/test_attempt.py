"""What an attempt leaves on the disk when its audit has no use for it."""

from pathlib import Path

import pytest

from jobs.ledger import Ledger
from models_store.store import ModelsStore
from storage.artifacts import ArtifactStore
from tests.toy import toy_spec
from worker.attempts.attempt import Attempt
from worker.attempts.context import WorkerContext
from worker.attempts.endings import End
from worker.settings import WorkerSettings
from worker.shutdown import Shutdown


@pytest.fixture
def context(ledger: Ledger, toy_models: Path, tmp_path: Path) -> WorkerContext:
    settings = WorkerSettings.load(data_dir=tmp_path, models_root=toy_models, device="cpu", lease_s=6, heartbeat_s=1)
    return WorkerContext(
        settings=settings,
        ledger=ledger,
        models=ModelsStore(models_root=toy_models, store_dir=settings.store_dir),
        artifacts=ArtifactStore(settings.artifacts_url),
        shutdown=Shutdown(),
    )


@pytest.mark.parametrize("deleted", [True, False])
def test_an_attempt_that_nobody_waits_for_leaves_nothing(
    context: WorkerContext, ledger: Ledger, *, deleted: bool
) -> None:
    audit_id = ledger.submit(toy_spec(), owner="me").audit.id
    claim = ledger.claim(audit_id, worker="w")
    assert claim is not None
    with context.artifacts.folder(audit_id).create("plan") as folder:
        (folder / "plan.json").write_text("{}")
    # The audit ends, and is deleted, without this worker.
    ledger.cancelled(claim)
    if deleted:
        ledger.delete(audit_id)
    assert Attempt(context, claim).run() is End.FORGOTTEN
    assert list(context.artifacts.audits()) == []


def test_an_attempt_that_lost_to_another_leaves_the_others_work_alone(context: WorkerContext, ledger: Ledger) -> None:
    audit_id = ledger.submit(toy_spec(), owner="me").audit.id
    first = ledger.claim(audit_id, worker="w")
    assert first is not None
    ledger.release(first)
    assert ledger.claim(audit_id, worker="v") is not None
    with context.artifacts.folder(audit_id).create("plan") as folder:
        (folder / "plan.json").write_text("{}")
    assert Attempt(context, first).run() is End.FORGOTTEN
    assert context.artifacts.list(audit_id) == ["plan"]
