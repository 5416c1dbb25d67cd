"""Locks, lost connections, and the translation of errors."""

import contextlib
import sqlite3
import subprocess
import sys
import threading
import time

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from structlog.testing import capture_logs

from jobs.database import connections
from jobs.database.connections import Database
from jobs.errors import LedgerError, LedgerUnavailable
from jobs.ledger import Ledger
from tests.clocks import ends_within


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "mysql://host/x", "", "nonsense", "redis://localhost"]
)
def test_other_databases_are_refused(url):
    with pytest.raises(ValueError, match="ledger"):
        Ledger(url)


@pytest.mark.parametrize(
    "settings",
    [{"lease_s": 0}, {"lease_s": float("nan")}, {"max_attempts": 0}, {"requeue_after_s": 0}, {"requeue_after_s": -1}],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Ledger(f"sqlite:///{tmp_path}/x", **settings)


def test_ping(ledger):
    ledger.ping()


@pytest.mark.parametrize(
    "url", ["sqlite:////nonexistent/folder/ledger.sqlite3", "postgresql://nobody@127.0.0.1:1/none"]
)
def test_what_cannot_be_reached_is_unavailable(open_ledger, url):
    ledger = open_ledger(url)
    for call in (ledger.ping, ledger.counts, ledger.reap, ledger.schema_is_current):
        with pytest.raises(LedgerUnavailable) as unavailable:
            call()
        assert isinstance(unavailable.value.__cause__, SQLAlchemyError)


def test_other_errors_of_the_database_are_ours_too_and_say_nothing_of_the_data(url):
    database = Database(url, busy_s=1)

    def work(connection):
        connection.execute(
            text("INSERT INTO specs (audit_id, body) VALUES (:audit_id, :body)"), {"audit_id": "a", "body": "secret"}
        )

    with pytest.raises(LedgerError) as error:
        database.write(work)
    assert not isinstance(error.value, LedgerUnavailable)
    assert isinstance(error.value.__cause__, SQLAlchemyError)
    assert "secret" not in str(error.value) + str(error.value.__cause__)
    database.close()


@pytest.mark.parametrize("statement", ["SELECT nothing FROM audits", "SELECT 1 FROM nothing", "SELEC 1"])
def test_a_wrong_statement_is_our_fault_and_not_the_databases_absence(url, statement):
    database = Database(url, busy_s=1)
    for run in (database.write, lambda work: _read(database, work)):
        with pytest.raises(LedgerError, match="refused a statement") as error:
            run(lambda connection: connection.execute(text(statement)))
        assert not isinstance(error.value, LedgerUnavailable)
    database.close()


def _read(database, work):
    with database.reading() as connection:
        work(connection)


def test_what_work_raises_rolls_back(ledger, spec):
    audit_id = ledger.submit(spec, owner="ann").audit.id

    def work(connection):
        connection.execute(text("DELETE FROM audits"))
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        ledger._database.write(work)
    assert ledger.get(audit_id).id == audit_id


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
class TestSqliteLock:
    @pytest.fixture
    def locker(self, url):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False)
        yield connection
        connection.close()

    def test_a_short_lock_is_waited_for(self, url, open_ledger, spec, locker, monkeypatch):
        monkeypatch.setattr(connections, "_SQLITE_BUSY_S", 0.05)
        ledger = open_ledger(url, busy_s=60)
        audit_id = ledger.submit(spec, owner="ann").audit.id
        locker.execute("BEGIN IMMEDIATE")

        def let_go():
            """Once one wait inside SQLite is over, so that the transaction is begun again."""
            while not any(line["event"] == "ledger.blocked" for line in logged):
                time.sleep(0.01)
            locker.execute("COMMIT")

        with capture_logs() as logged:
            holder = threading.Thread(target=let_go)
            holder.start()
            assert ledger.claim(audit_id, worker="w1") is not None
            holder.join()

    def test_a_long_lock_is_given_up_on_and_readers_never_wait(self, url, open_ledger, spec, locker):
        ledger = open_ledger(url, busy_s=0.3)
        audit_id = ledger.submit(spec, owner="ann").audit.id
        locker.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        with pytest.raises(LedgerUnavailable):
            ledger.claim(audit_id, worker="w1")
        assert time.monotonic() - started > 0.25

        def claim():
            with pytest.raises(LedgerUnavailable):
                ledger.claim(audit_id, worker="w1")

        assert ends_within(3, claim)
        assert ledger.get(audit_id).status == "queued"
        assert ledger.reap() == []
        locker.execute("ROLLBACK")
        assert ledger.claim(audit_id, worker="w1") is not None

    def test_a_writer_takes_the_lock_before_it_looks(self, url, open_ledger, locker):
        ledger = open_ledger(url, busy_s=0.1)
        locker.execute("BEGIN IMMEDIATE")
        looked = []
        with pytest.raises(LedgerUnavailable):
            ledger._database.write(looked.append)
        assert looked == []
        locker.execute("ROLLBACK")
        ledger._database.write(looked.append)
        assert len(looked) == 1

    def test_the_file_is_set_up_as_promised(self, ledger):
        with ledger._database.reading() as connection:
            for pragma, value in (("journal_mode", "wal"), ("foreign_keys", 1), ("synchronous", 2)):
                assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one() == value


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_connections_cut_by_the_server_are_replaced(ledger, spec, postgres):
    audit_id = ledger.submit(spec, owner="ann").audit.id
    claim = ledger.claim(audit_id, worker="w1")
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'ledger_%'")
    ledger.heartbeat(claim)
    assert ledger.get(audit_id).status == "running"


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("state", ["25006", "57P01", "57P02", "57P03", "08000", "08006", "08P01"])
def test_an_answer_that_means_an_outage_drops_every_connection(url, state):
    database = Database(url, busy_s=1)
    with contextlib.ExitStack() as held:
        before = {_backend(held.enter_context(database.reading())) for _ in range(3)}
    raised = text(f"DO $$ BEGIN RAISE EXCEPTION 'gone' USING ERRCODE = '{state}'; END $$")
    with pytest.raises(LedgerUnavailable):
        database.write(lambda connection: connection.execute(raised))
    with contextlib.ExitStack() as held:
        after = {_backend(held.enter_context(database.reading())) for _ in range(3)}
    assert len(before) == len(after) == 3
    assert not before & after
    database.close()


def _backend(connection):
    return connection.execute(text("SELECT pg_backend_pid()")).scalar_one()


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_write_where_we_only_read_is_our_fault(url):
    database = Database(url, busy_s=1)
    with pytest.raises(LedgerError) as error:
        _read(database, lambda connection: connection.execute(text("CREATE TABLE never (a int)")))
    assert not isinstance(error.value, LedgerUnavailable)
    database.close()


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_connection_that_only_reads_is_replaced(ledger):
    ledger.ping()
    with ledger._database.reading() as connection:
        connection.exec_driver_sql("PRAGMA query_only = ON")
    # As one stays that was opened while its disk was mounted read-only.
    with pytest.raises(LedgerUnavailable):
        ledger.ping()
    ledger.ping()


def test_ping_leaves_nothing_behind(ledger):
    def rows():
        with ledger._database.reading() as connection:
            return connection.execute(text("SELECT * FROM counters")).all()

    before = rows()
    ledger.ping()
    assert rows() == before


FORK = """
import os, sys
from jobs.ledger import Ledger
ledger = Ledger(sys.argv[1])
[audit] = ledger.list().audits
assert ledger._database.engine.pool.checkedin() == 1
child = os.fork()
if child == 0:
    # None of the parent's connections is left to be used by mistake.
    if ledger._database.engine.pool.checkedin():
        os._exit(2)
    claim = ledger.claim(audit.id, worker="child")
    ledger.heartbeat(claim)
    ledger.close()
    os._exit(0 if claim is not None else 1)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert ledger.get(audit.id).status == "running"
ledger.close()
"""


def test_a_ledger_can_be_used_on_both_sides_of_a_fork(url, ledger, spec):
    ledger.submit(spec, owner="ann")
    done = subprocess.run([sys.executable, "-W", "error", "-c", FORK, url], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
