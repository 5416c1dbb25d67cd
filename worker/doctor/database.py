"""The ledger's database: does it answer, is its schema current, is its queue worked on?"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from common.database_address import parse_database_url
from jobs.errors import LedgerError
from jobs.ledger import Ledger
from worker.doctor.finding import Finding, clock_skew
from worker.settings import WorkerSettings

LONG_QUEUED_S: Final = 900.0
_SHARED_FILE_SYSTEMS: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p"})


def check(settings: WorkerSettings) -> Iterator[Finding]:
    """Check that the ledger answers, its schema, its clock and its queue."""
    address = parse_database_url(settings.database_url)
    kind = address.get_backend_name()
    ledger = Ledger(settings.database_url, busy_s=2)
    try:
        if kind == "sqlite" and not Path(str(address.database)).exists():
            yield Finding("database", "ok", "SQLite; the file is created at the first start")
            return
        if not ledger.schema_is_current():
            yield Finding(
                "database", "bad", f"{kind} answers, but its schema is of another version",
                "start the API or a worker of this version: each upgrades an older schema; if the schema is newer, "
                "install the version that wrote it",
            )  # fmt: skip
            return
        ledger.ping()
        yield Finding("database", "ok", f"{kind} takes writes, the schema is current")
        yield from _on_shared_disk(settings, kind)
        yield clock_skew("database clock", ledger.now())
        yield from _secrets(ledger)
        counts = ledger.counts()
        queued, running = counts.by_status.get("queued", 0), counts.by_status.get("running", 0)
        text = f"{queued} queued, {running} running, longest wait {counts.oldest_queued_s:.0f} s"
        if queued and not running and counts.oldest_queued_s > LONG_QUEUED_S:
            yield Finding(
                "queue",
                "warning",
                text,
                "no worker takes them: is one running, and can it reach the database and the broker?",
            )
        else:
            yield Finding("queue", "ok", text)
    except LedgerError as error:
        yield Finding(
            "database", "bad", f"{kind} cannot be used: {type(error).__name__}",
            "check that it is running and that BACKDOOR_AUDIT_DATABASE_URL is right; nothing works without it",
        )  # fmt: skip
    finally:
        ledger.close()


def _secrets(ledger: Ledger) -> Iterator[Finding]:
    """Say whether webhooks' signing secrets are encrypted; nothing without webhooks."""
    stored, plain = len(ledger.webhooks.stored_secrets()), ledger.webhooks.unencrypted()
    if plain:
        yield Finding(
            "webhook secrets", "warning", f"{plain} of {stored} are stored unencrypted in the ledger",
            "set BACKDOOR_AUDIT_WEBHOOK_KEYS for the API and restart it, or protect each copy of the ledger like a key",
        )  # fmt: skip
    elif stored:
        yield Finding("webhook secrets", "ok", f"{stored}, encrypted")


def _on_shared_disk(settings: WorkerSettings, kind: str) -> Iterator[Finding]:
    system = _file_system(settings.data_dir)
    if kind == "sqlite" and system in _SHARED_FILE_SYSTEMS:
        yield Finding(
            "database file", "bad", f"SQLite on {system}",
            "SQLite's locks do not work there: put the data folder on a local disk, or use PostgreSQL",
        )  # fmt: skip


def _file_system(path: Path) -> str:
    """Return the type of the file system that holds ``path``; empty if unknown."""
    best, kind = "", ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
            _, point, system, *_ = line.split(" ")
            inside = str(path) == point or str(path).startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, kind = point, system
    return kind
