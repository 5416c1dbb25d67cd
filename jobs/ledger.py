"""The ledger: the one door to the database, and the truth about every audit."""

from datetime import datetime
from typing import Final

from jobs.audits.requests import AuditRequests
from jobs.audits.work import AuditWork
from jobs.clock import Clock
from jobs.database import counters, schema
from jobs.database.connections import Database
from jobs.decisions import Decisions
from jobs.keys import KeyRepository
from jobs.libraries import Libraries
from jobs.policy import Policy
from jobs.version_tags import VersionTagRepository
from jobs.webhooks.repository import WebhookRepository


class Ledger(AuditRequests, AuditWork):
    """Audit rows, attempts, leases, events, idempotency keys, API keys, webhooks. Safe with threads and across a fork.

    Every method may raise ``LedgerUnavailable`` (try again later) and ``SchemaMismatch`` (migrate first, or run the
    code that fits). Each writing method is one transaction: whole, or nothing of it. Where the connection breaks while
    a transaction commits, the call raises and nobody can say which; calling again is safe for all but a ``submit``
    without a key: they are fenced, keyed, or the same when done twice.
    """

    def __init__(
        self,
        url: str,
        *,
        lease_s: float = 60,
        max_attempts: int = 3,
        requeue_after_s: float = 60,
        max_queued: int | None = None,
        max_deadline_s: float | None = None,
        busy_s: float = 10,
        clock: Clock | None = None,
    ) -> None:
        """Open nothing yet; the first call connects.

        Args:
            url: ``sqlite:///path/to/file`` or ``postgresql://user@host/database``. PostgreSQL gets our timeouts as
                start-up options; ``?options=…`` in the URL takes their place (for a pooler that refuses them).
            lease_s: how long a claim lives without a heartbeat, seconds.
            max_attempts: lost attempts after which an audit fails with ``worker_lost``.
            requeue_after_s: how long a queued audit waits until ``reap`` hands it out once more, seconds.
            max_queued: how many queued audits one owner may have; None for any number.
            max_deadline_s: how long any audit may take from its first claim, seconds; None for no bound.
            busy_s: how long a write waits for a database that others keep locked, seconds.
            clock: what leases, deadlines and retention are measured with; by default PostgreSQL's clock, or the boot
                clock of this machine on SQLite (``jobs.clock``).

        Raises:
            ValueError: a setting makes no sense, or the URL is of another database.
        """
        policy = Policy(
            lease_s=lease_s,
            max_attempts=max_attempts,
            requeue_after_s=requeue_after_s,
            max_queued=max_queued,
            max_deadline_s=max_deadline_s,
        )
        super().__init__(Database(url, busy_s=busy_s), policy, clock)
        parts = self._read, self._write, self._clock
        self.keys: Final = KeyRepository(*parts)
        self.libraries: Final = Libraries(*parts)
        """The benign libraries."""
        self.decisions: Final = Decisions(*parts)
        """What people decided about audits."""
        self.webhooks: Final = WebhookRepository(*parts)
        self.tags: Final = VersionTagRepository(*parts)
        """What the tags of registered versions are to say."""

    def migrate(self) -> None:
        """Bring the schema up to date; several processes may call this at once."""
        schema.migrate(self._database)

    def schema_is_current(self) -> bool:
        """Return whether the database has the schema that this code needs."""
        with self._database.reading() as connection:
            return schema.revision_of(connection) == schema.newest_revision()

    def ping(self) -> None:
        """Make sure that the database takes writes, by one that leaves nothing behind.

        Raises:
            LedgerUnavailable: it does not answer, takes no writes, or was locked for two seconds (ten on PostgreSQL).
        """
        self._write(counters.try_out, busy_s=0)

    def now(self) -> datetime:
        """Return the time by the clock that leases use, UTC."""
        return self._read(self._clock.read).at

    def close(self) -> None:
        """Close all connections."""
        self._database.close()
