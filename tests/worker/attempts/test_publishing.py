"""What moves between an audit's local folder and the object store, against a real S3 server."""

import errno
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.ledger import Ledger
from storage.artifacts import ArtifactStore
from storage.errors import StorageUnavailable
from storage.folders import ArtifactFolder
from storage.objects import ObjectArtifacts
from tests.buckets import Buckets
from tests.clocks import ends_within
from tests.toy import toy_spec
from tests.worker.conftest import wait_for
from worker.attempts import publishing
from worker.attempts.attempt import Attempt
from worker.attempts.context import WorkerContext
from worker.attempts.endings import End
from worker.attempts.publishing import Publisher, insist
from worker.doctor import disk
from worker.reaper import sweep, sweep_workspaces
from worker.sandbox.protocol import REPORT_FOLDER
from worker.settings import WorkerSettings

AUDIT = "audit_01"


@pytest.fixture
def store(bucket_url: str) -> ObjectArtifacts:
    return ObjectArtifacts(bucket_url)


def fill(workspace: ArtifactFolder, *names: str) -> None:
    for name in names:
        with workspace.create(name) as folder:
            (folder / "data").write_text(name)


def publisher(store: ObjectArtifacts, workspace: ArtifactFolder, *, keep: bool = False) -> Publisher:
    return Publisher(store, AUDIT, workspace, keep_activations=keep, wanted=lambda: True)


@pytest.mark.parametrize("keep", [True, False])
def test_activations_stay_here_unless_they_are_kept(store: ObjectArtifacts, tmp_path: Path, *, keep: bool) -> None:
    workspace = ArtifactFolder(tmp_path / "here")
    fill(workspace, "plan", "tuned-clean-a", "directions", REPORT_FOLDER)
    publisher(store, workspace, keep=keep).publish()
    kept = ["tuned-clean-a"] if keep else []
    assert store.list(AUDIT) == sorted(["plan", "directions", REPORT_FOLDER, *kept])


def test_the_report_comes_last(store: ObjectArtifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = ArtifactFolder(tmp_path / "here")
    fill(workspace, "plan", REPORT_FOLDER, "zz")
    order: list[str] = []
    publish = ObjectArtifacts.publish

    def noted(self: ObjectArtifacts, audit_id: str, name: str, *rest: Any, **more: Any) -> bool:
        order.append(name)
        return publish(self, audit_id, name, *rest, **more)

    monkeypatch.setattr(ObjectArtifacts, "publish", noted)
    publisher(store, workspace).publish()
    assert order == ["plan", "zz", REPORT_FOLDER]


def test_another_machine_gets_what_was_published(store: ObjectArtifacts, tmp_path: Path) -> None:
    here, there = ArtifactFolder(tmp_path / "here"), ArtifactFolder(tmp_path / "there")
    fill(here, "plan", "directions")
    publisher(store, here).publish()
    fill(there, "plan")
    before = (tmp_path / "there" / "plan").stat().st_ino
    publisher(store, there).fetch()
    assert list(there.names()) == ["directions", "plan"]
    assert (tmp_path / "there" / "plan").stat().st_ino == before
    fill(here, REPORT_FOLDER)
    publisher(store, here).publish()
    third = ArtifactFolder(tmp_path / "third")
    publisher(store, third).fetch()
    assert list(third.names()) == [REPORT_FOLDER]


def test_what_is_finished_is_published_while_the_sandbox_runs(
    store: ObjectArtifacts, tmp_path: Path, buckets: Buckets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "_EVERY_S", 0.1)
    tries: list[str] = []
    passes: list[int] = []
    publish_one, names = Publisher._publish_one, Publisher._names
    monkeypatch.setattr(Publisher, "_publish_one", lambda self, name: (tries.append(name), publish_one(self, name))[1])
    monkeypatch.setattr(Publisher, "_names", lambda self: (passes.append(1), names(self))[1])
    workspace = ArtifactFolder(tmp_path / "here")
    with publisher(store, workspace, keep=True).running():
        with buckets.down():
            fill(workspace, "plan", "tuned-clean-a", REPORT_FOLDER)
            wait_for(lambda: bool(tries), 30)
        wait_for(lambda: store.list(AUDIT) == ["plan"], 30)
        seen = len(passes)
        wait_for(lambda: len(passes) >= seen + 3, 30)
        assert store.list(AUDIT) == ["plan"], "neither activations nor a report that nobody has read"


def test_an_attempt_that_has_lost_its_audit_publishes_nothing(store: ObjectArtifacts, tmp_path: Path) -> None:
    workspace = ArtifactFolder(tmp_path / "here")
    fill(workspace, "plan")
    Publisher(store, AUDIT, workspace, keep_activations=False, wanted=lambda: False).publish()
    assert store.list(AUDIT) == []


def test_it_tries_again_until_it_works_or_must_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_RETRY_S", 0.01)
    tries: list[int] = []
    told: list[str] = []

    def third_time() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise StorageUnavailable("out")

    assert insist(third_time, lambda: None, told.append) is None
    assert (len(tries), told) == (3, ["waiting for the artifact store"] * 2)
    tries.clear()
    assert insist(third_time, lambda: "cancel" if tries else None, told.append) == "cancel"
    assert len(tries) == 1


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, "no_space"), (errno.EACCES, "internal")])
def test_what_the_local_disk_refuses_ends_the_audit(number: int, code: str) -> None:
    def refuse() -> None:
        raise OSError(number, "reason")

    failure = insist(refuse, lambda: None, lambda message: None)
    assert getattr(failure, "code", None) == code


def test_working_copies_of_audits_that_are_not_open_are_swept(
    ledger: Ledger, store: ObjectArtifacts, tmp_path: Path
) -> None:
    workspaces = ArtifactStore(tmp_path / "work")
    ids = [ledger.submit(toy_spec(seed=seed), owner="me").audit.id for seed in range(3)]
    for audit_id in (*ids, "audit_deleted"):
        fill(workspaces.folder(audit_id), "plan")
        store.publish(audit_id, "plan", workspaces.root / audit_id / "plan")
    ledger.request_cancel(ids[0])
    claim = ledger.claim(ids[1], worker="w")
    assert claim is not None
    assert sweep_workspaces(ledger, workspaces) == sorted([ids[0], "audit_deleted"])
    assert list(workspaces.audits()) == sorted(ids[1:])
    # In the store itself, what the ledger does not know may be another ledger's.
    assert sweep(ledger, store) == [ids[0]]
    assert list(store.audits()) == sorted([*ids[1:], "audit_deleted"])


def test_an_attempt_that_nobody_waits_for_leaves_nothing_in_the_store(
    ledger: Ledger, store: ObjectArtifacts, bucket_url: str, make_context: Callable[..., WorkerContext], tmp_path: Path
) -> None:
    context = make_context(lease_s=6, heartbeat_s=1, artifacts_url=bucket_url, published=store)
    assert context.settings.workspaces == str(tmp_path / "work")
    audit_id = ledger.submit(toy_spec(), owner="me").audit.id
    claim = ledger.claim(audit_id, worker="w")
    assert claim is not None
    fill(context.artifacts.folder(audit_id), "plan")
    store.publish(audit_id, "plan", context.artifacts.root / audit_id / "plan")
    ledger.cancelled(claim)
    ledger.delete(audit_id)
    assert Attempt(context, claim).run() is End.FORGOTTEN
    assert list(store.audits()) == []
    assert list(context.artifacts.audits()) == []


def test_the_doctor_tries_the_store(bucket_url: str, buckets: Buckets, tmp_path: Path) -> None:
    settings = WorkerSettings(data_dir=tmp_path, models_root=tmp_path, artifacts_url=bucket_url)
    assert [each.state for each in disk.check_artifacts(settings)] == ["ok", "ok"]
    with buckets.down():
        found = list(disk.check_artifacts(settings))
    assert [each.state for each in found] == ["bad", "ok"]
    assert "object store" in found[0].found


def test_the_doctor_does_not_wait_long_for_a_silent_store(
    bucket_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_STORE_WITHIN_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        settings = WorkerSettings(data_dir=tmp_path, models_root=tmp_path, artifacts_url=bucket_url)
        checks = []
        assert ends_within(5, lambda: checks.append(list(disk.check_artifacts(settings))))
    for first, _ in checks:
        assert (first.state, "does not answer" in first.found) == ("bad", True)
