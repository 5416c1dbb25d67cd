"""Rows of the fault matrix in which a clock jumps, or code of two versions meets."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from jobs.database import schema
from tests.faults.stack import MISSING, WHOLE, System
from tests.toy import toy_spec
from tests.worker.conftest import wait_for

pytestmark = [pytest.mark.timeout(900), pytest.mark.long]

SHIFTED_CLOCK = Path(__file__).with_name("shifted_clock.c")


@pytest.fixture(scope="module")
def shifted_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that adds the number in a file to the wall clock of the process that loads it."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler, which the shifted clock needs")
    library = tmp_path_factory.mktemp("clock") / "shifted_clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SHIFTED_CLOCK), "-ldl"], check=True)
    return library


def test_row_18_clock_jumps_an_hour(system: System, shifted_clock: Path, tmp_path: Path) -> None:
    offset = tmp_path / "offset"
    offset.write_text("0")
    system.environment |= {"LD_PRELOAD": str(shifted_clock), "SHIFTED_CLOCK_FILE": str(offset)}
    try:
        ahead, watcher = system.start_worker(), system.start_worker()
    finally:
        for name in ("LD_PRELOAD", "SHIFTED_CLOCK_FILE"):
            del system.environment[name]
    reaped = system.ledger.counts().reaped_total
    audit_id = system.post(WHOLE)
    system.wait(audit_id, lambda record: record.stage not in (None, "resolve", "preflight"))
    real = system.ledger.get(audit_id).started_at
    assert real is not None
    for seconds in (3600, -3600):
        offset.write_text(str(seconds))
        assert system.end_of(system.post(MISSING)).attempt == 1
        time.sleep(3)  # some passes of both workers' reapers
    system.succeeded(audit_id)
    record = system.ledger.get(audit_id)
    assert record.attempt == 1
    assert system.ledger.counts().reaped_total == reaped
    assert record.started_at == real
    assert record.finished_at is not None
    assert 0 < (record.finished_at - real).total_seconds() < 1800, "times are the database's"
    shifted = [line["timestamp"] for line in ahead.logged() + watcher.logged()]
    assert max(shifted)[:13] != min(shifted)[:13], "the clocks of the workers did jump"


@contextmanager
def _newer(system: System, statement: str, undo: str) -> "Iterator[None]":
    """What newer code would have written."""
    engine = create_engine(system.database_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    try:
        yield
    finally:
        with engine.connect() as connection:
            connection.execute(text(undo))
        engine.dispose()


def test_row_19_old_worker_new_api(system: System) -> None:
    old = system.start_worker()
    audit_id = system.ledger.submit(toy_spec(), owner="local").audit.id
    with _newer(system, "UPDATE specs SET version = '9.0'", "UPDATE specs SET version = '1.0'"):
        system.dispatcher.enqueue(audit_id)
        wait_for(lambda: bool(system.logged("audit.skipped")), 60, old.log)
        line = system.logged("audit.skipped")[0]
        assert line["audit_id"] == audit_id
        assert "9.0" in line["reason"]
        record = system.ledger.get(audit_id)
        assert (record.status, record.attempt) == ("queued", 0)
        assert old.process.poll() is None, "it goes on with audits that it can read"
    system.succeeded(audit_id)

    now = schema.newest_revision()
    later = system.post(toy_spec(seed=1))
    with _newer(
        system,
        "UPDATE alembic_version SET version_num = '9999'",
        f"UPDATE alembic_version SET version_num = '{now}'",
    ):
        another = system.ledger.submit(toy_spec(seed=2), owner="local").audit.id
        system.dispatcher.enqueue(another)
        assert old.process.wait(120) == 3, "it ends"
        assert "9999" in system.logged("worker.outdated")[0]["reason"]
        record = system.ledger.get(another)
        assert (record.status, record.attempt) == ("queued", 0)
    system.start_worker()
    for waiting in (later, another):
        system.succeeded(waiting)
