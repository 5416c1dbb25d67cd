"""Migrations, from anywhere and many at once."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import CheckConstraint, inspect, text

from jobs.database import schema
from jobs.database.tables import metadata
from jobs.errors import DocumentUnreadable, SchemaMismatch, SpecTooNew

MIGRATE = "import sys; from jobs.ledger import Ledger; one = Ledger(sys.argv[1]); one.migrate(); one.close()"


def test_an_empty_database_is_refused_until_it_is_migrated(empty_url, open_ledger, spec):
    ledger = open_ledger(empty_url)
    assert not ledger.schema_is_current()
    for call in (ledger.counts, ledger.reap, lambda: ledger.submit(spec, owner="ann")):
        with pytest.raises(SchemaMismatch, match="migrate"):
            call()
    ledger.migrate()
    assert ledger.schema_is_current()
    assert ledger.submit(spec, owner="ann").created


def test_migrating_again_keeps_everything(ledger, spec):
    audit_id = ledger.submit(spec, owner="ann").audit.id
    ledger.migrate()
    assert ledger.get(audit_id).id == audit_id


def test_the_migrations_make_the_tables_of_the_code(ledger):
    with ledger._database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        # Checks are not compared by alembic.
        for table in metadata.tables.values():
            wanted = {one.name for one in table.constraints if isinstance(one, CheckConstraint)}
            assert {one["name"] for one in inspect(connection).get_check_constraints(table.name)} == wanted


def test_threads_may_migrate_at_once(empty_url, open_ledger):
    ledgers = [open_ledger(empty_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda ledger: ledger.migrate(), ledgers))
    assert ledgers[0].schema_is_current()


def test_processes_may_migrate_at_once_from_any_folder(empty_url, open_ledger, tmp_path, request):
    root = str(request.config.rootpath)
    command = [sys.executable, "-W", "error", "-c", f"import sys; sys.path.insert(0, {root!r}); {MIGRATE}", empty_url]
    started = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in started:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert open_ledger(empty_url).schema_is_current()


def test_an_old_worker_refuses_a_newer_database(ledger, spec):
    audit_id = ledger.submit(spec, owner="ann").audit.id
    ledger._database.write(
        lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    )
    assert not ledger.schema_is_current()
    with pytest.raises(SchemaMismatch, match="9999"):
        ledger.claim(audit_id, worker="old")
    with pytest.raises(SchemaMismatch, match="9999"):
        ledger.migrate()
    assert ledger.get(audit_id).status == "queued"


def test_a_document_of_another_version_is_named(ledger, spec):
    audit_id = ledger.submit(spec, owner="ann").audit.id
    ledger._database.write(lambda connection: connection.execute(text("UPDATE specs SET body = '{\"new\": 1}'")))
    with pytest.raises(DocumentUnreadable, match="AuditSpec"):
        ledger.get(audit_id)


@pytest.mark.parametrize("version", ["1.3", "1.10", "2.0"])
def test_an_audit_of_a_newer_spec_is_left_to_a_newer_worker(ledger, spec, version):
    audit_id = ledger.submit(spec, owner="ann").audit.id
    ledger._database.write(
        lambda connection: connection.execute(text("UPDATE specs SET version = :version"), {"version": version})
    )
    with pytest.raises(SpecTooNew, match=version):
        ledger.claim(audit_id, worker="old")
    record = ledger.get(audit_id)
    assert (record.status, record.attempt) == ("queued", 0)


def test_there_is_one_line_of_migrations():
    assert schema.newest_revision() == "0013"
