"""Webhooks: their addresses and secrets, the log of their deliveries, and what senders take from the outbox."""

import builtins
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Final

import structlog
from sqlalchemy import Connection, delete, func, insert, select, update

from jobs.audits.submissions import check_name
from jobs.clock import Clock
from jobs.database.connections import Transact
from jobs.database.due import NOT_DUE, is_due
from jobs.database.tables import MAX_URL, deliveries, webhooks
from jobs.errors import (
    DeliveryNotFound,
    TooManyWebhooks,
    WebhookDisabled,
    WebhookNotFound,
    WebhookTaken,
)
from jobs.ids import new_id
from jobs.webhooks import outbox
from jobs.webhooks.outbox import Row
from jobs.webhooks.records import AttemptRecord, DeliveryRecord, Outgoing, WebhookRecord

MAX_WEBHOOKS: Final = 20
"""Webhooks that one owner may have: each costs one request at the end of every audit."""

MAX_AT_ONCE: Final = 4
"""Messages of one owner that are sent at the same time: its receivers may be slow."""

ENCRYPTED: Final = "fernet:"
"""How a secret begins that the API has encrypted; any other is stored as it is."""

_KEPT_ATTEMPTS: Final = 20

log = structlog.get_logger(__name__)


class WebhookRepository:
    """The webhooks of a ledger. Every method is one transaction, and may raise what the ledger raises."""

    def __init__(self, read: Transact, write: Transact, clock: Clock) -> None:
        self._read = read
        self._write = write
        self._clock = clock

    # For owners

    def create(self, *, owner: str, url: str, stored_secret: str, every_audit: bool = True) -> WebhookRecord:
        """Register an address that is notified when audits end; its signing secret is stored as it is given here.

        Raises:
            ValueError: a name or address that cannot be stored.
            WebhookTaken, TooManyWebhooks: as their names say.
        """
        check_name("owner", owner)
        if not 0 < len(url) <= MAX_URL:
            raise ValueError(f"the address must be 1 to {MAX_URL} characters")

        def work(connection: Connection) -> WebhookRecord:
            urls = connection.execute(select(webhooks.c.url).where(webhooks.c.owner == owner)).scalars().all()
            if url in urls:
                raise WebhookTaken
            if len(urls) >= MAX_WEBHOOKS:
                raise TooManyWebhooks
            row = {
                "id": new_id("wh_"),
                "owner": owner,
                "url": url,
                "stored_secret": stored_secret,
                "every_audit": every_audit,
                "created_at": self._clock.read(connection).at,
                "disabled_at": None,
            }
            connection.execute(insert(webhooks).values(**row))
            return _webhook(row)

        record = self._write(work)
        log.info("webhook.created", webhook_id=record.id)
        return record

    def list(self, *, owner: str) -> tuple[WebhookRecord, ...]:
        """Return the owner's webhooks, newest first."""
        query = select(webhooks).where(webhooks.c.owner == owner).order_by(webhooks.c.id.desc())
        return self._read(lambda connection: tuple(_webhook(row._asdict()) for row in connection.execute(query)))

    def get(self, webhook_id: str, *, owner: str) -> WebhookRecord:
        """Return one webhook.

        Raises:
            WebhookNotFound: there is none, or it is another owner's.
        """
        return self._read(lambda connection: _webhook(_find(connection, webhook_id, owner)))

    def delete(self, webhook_id: str, *, owner: str) -> None:
        """Delete a webhook, with its log and its pending messages.

        Raises:
            WebhookNotFound: there is none, or it is another owner's.
        """

        def work(connection: Connection) -> None:
            _find(connection, webhook_id, owner)
            connection.execute(delete(webhooks).where(webhooks.c.id == webhook_id))

        self._write(work)
        log.info("webhook.deleted", webhook_id=webhook_id)

    def test(self, webhook_id: str, *, owner: str) -> DeliveryRecord:
        """File a test message.

        Raises:
            WebhookNotFound, WebhookDisabled: as their names say.
        """

        def work(connection: Connection) -> DeliveryRecord:
            _live(connection, webhook_id, owner)
            now = self._clock.read(connection)
            return _delivery(outbox.put(connection, now, webhook_id, outbox.TEST, {}, audit_id=None))

        return self._write(work)

    def deliveries(
        self, webhook_id: str, *, owner: str, before: str | None = None, limit: int = 50
    ) -> builtins.list[DeliveryRecord]:
        """Return up to ``limit`` deliveries, newest first, that are older than the one with the id ``before``.

        Raises:
            WebhookNotFound: there is no such webhook, or it is another owner's.
        """

        def work(connection: Connection) -> builtins.list[DeliveryRecord]:
            _find(connection, webhook_id, owner)
            query = select(deliveries).where(deliveries.c.webhook_id == webhook_id)
            if before is not None:
                query = query.where(deliveries.c.id < before)
            query = query.order_by(deliveries.c.id.desc()).limit(limit)
            return [_delivery(row._asdict()) for row in connection.execute(query)]

        return self._read(work)

    def replay(self, webhook_id: str, delivery_id: str, *, owner: str) -> DeliveryRecord:
        """Send a message once more, at once and with the whole retry schedule; its id and body stay the same.

        Raises:
            WebhookNotFound, WebhookDisabled, DeliveryNotFound: as their names say.
        """

        def work(connection: Connection) -> DeliveryRecord:
            _live(connection, webhook_id, owner)
            query = select(deliveries).where(deliveries.c.id == delivery_id, deliveries.c.webhook_id == webhook_id)
            found = connection.execute(query.with_for_update()).one_or_none()
            if found is None:
                raise DeliveryNotFound
            due = self._clock.read(connection).due_in(0)
            changes: dict[str, Any] = {"state": "pending", "tries": 0, **due}
            connection.execute(update(deliveries).where(deliveries.c.id == delivery_id).values(**changes))
            return _delivery({**found._asdict(), **changes})

        return self._write(work)

    # For senders

    def take(
        self, *, limit: int, lease_s: float, skip: Collection[str] = (), busy: Mapping[str, int] | None = None
    ) -> builtins.list[Outgoing]:
        """Take messages that are due, at most one per webhook and none of the webhooks in ``skip``.

        Owners have turns: the first message of each comes before the second of any. ``busy`` says how many messages of
        an owner are being sent already; one that has ``MAX_AT_ONCE`` of them waits. Nobody else gets a message for
        ``lease_s``, so one whose sender dies before it settles it is sent again.
        """
        under_way = dict(busy or {})

        def due(connection: Connection) -> Any:
            return is_due(deliveries, self._clock.read(connection)) & deliveries.c.webhook_id.not_in(list(skip))

        def anything(connection: Connection) -> bool:
            return connection.execute(select(deliveries.c.id).where(due(connection)).limit(1)).first() is not None

        def work(connection: Connection) -> builtins.list[Outgoing]:
            now = self._clock.read(connection)
            taken: builtins.list[Outgoing] = []
            for message_id in connection.execute(_in_turns(due(connection), limit)).scalars().all():
                query = (
                    select(deliveries, webhooks.c.url, webhooks.c.stored_secret, webhooks.c.owner)
                    .join(webhooks, webhooks.c.id == deliveries.c.webhook_id)
                    .where(deliveries.c.id == message_id, is_due(deliveries, now))
                    .with_for_update(skip_locked=True, of=deliveries)
                )
                found = connection.execute(query).one_or_none()
                if found is None or under_way.get(found.owner, 0) >= MAX_AT_ONCE:
                    continue
                under_way[found.owner] = under_way.get(found.owner, 0) + 1
                names = ("id", "webhook_id", "owner", "url", "stored_secret", "body", "tries")
                taken.append(Outgoing(**{name: getattr(found, name) for name in names}))
                lease = now.due_in(lease_s)
                connection.execute(update(deliveries).where(deliveries.c.id == message_id).values(**lease))
                if len(taken) >= limit:
                    break
            return taken

        # Looking first keeps an idle sender from taking SQLite's one write lock every second.
        return self._write(work) if self._read(anything) else []

    def settle(self, delivery_id: str, attempt: AttemptRecord, *, delivered: bool, retry_in_s: float | None) -> None:
        """Record how an attempt ended; without a next one, a message that was not delivered has failed."""

        def work(connection: Connection) -> None:
            query = select(deliveries).where(deliveries.c.id == delivery_id).with_for_update()
            found = connection.execute(query).one_or_none()
            if found is None or found.state != "pending":
                # Its webhook was deleted, or another sender was quicker.
                return
            attempts = [*json.loads(found.attempts), asdict(attempt)][-_KEPT_ATTEMPTS:]
            values: dict[str, Any] = {"attempts": json.dumps(attempts), "tries": found.tries + 1}
            if delivered or retry_in_s is None:
                values |= {"state": "delivered" if delivered else "failed", **NOT_DUE}
            else:
                values |= self._clock.read(connection).due_in(retry_in_s)
            connection.execute(update(deliveries).where(deliveries.c.id == delivery_id).values(**values))

        self._write(work)

    def disable(self, webhook_id: str) -> None:
        """Stop notifying a webhook, because its receiver answered 410 Gone."""

        def work(connection: Connection) -> None:
            now = self._clock.read(connection).at
            connection.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(disabled_at=now))
            given_up = {"state": "failed", **NOT_DUE}
            pending = (deliveries.c.webhook_id == webhook_id) & (deliveries.c.state == "pending")
            connection.execute(update(deliveries).where(pending).values(**given_up))

        self._write(work)
        log.warning("webhook.disabled", webhook_id=webhook_id)

    # For operators

    def stored_secrets(self) -> builtins.list[tuple[str, str]]:
        """Id and stored secret of every webhook of every owner."""
        query = select(webhooks.c.id, webhooks.c.stored_secret).order_by(webhooks.c.id)
        return self._read(lambda connection: [(row.id, row.stored_secret) for row in connection.execute(query)])

    def replace_secret(self, webhook_id: str, before: str, after: str) -> bool:
        """Store a webhook's secret in another form; False if it is gone, or is not stored as ``before`` any more."""
        here = (webhooks.c.id == webhook_id) & (webhooks.c.stored_secret == before)
        change = update(webhooks).where(here).values(stored_secret=after)
        return self._write(lambda connection: connection.execute(change).rowcount == 1)

    def unencrypted(self) -> int:
        """How many signing secrets are stored as they are."""
        plain = webhooks.c.stored_secret.not_like(f"{ENCRYPTED}%")
        query = select(func.count()).select_from(webhooks).where(plain)
        return self._read(lambda connection: int(connection.execute(query).scalar_one()))

    def prune(self, *, older_than_s: float) -> int:
        """Delete settled deliveries that are older than this; return how many."""

        def work(connection: Connection) -> int:
            limit = self._clock.read(connection).at - timedelta(seconds=older_than_s)
            old = (deliveries.c.state != "pending") & (deliveries.c.created_at < limit)
            return connection.execute(delete(deliveries).where(old)).rowcount

        return self._write(work)


def _in_turns(due: Any, limit: int) -> Any:
    """Ids of messages: of each webhook the one that has been due for longest, the owners' first before their second."""
    place = func.row_number().over(
        partition_by=deliveries.c.webhook_id, order_by=(deliveries.c.due_tick, deliveries.c.id)
    )
    first = (
        select(deliveries.c.id, deliveries.c.due_tick, webhooks.c.owner, place.label("place"))
        .join(webhooks, webhooks.c.id == deliveries.c.webhook_id)
        .where(due)
        .subquery()
    )
    turn = func.row_number().over(partition_by=first.c.owner, order_by=(first.c.due_tick, first.c.id))
    ranked = select(first.c.id, first.c.due_tick, turn.label("turn")).where(first.c.place == 1).subquery()
    # Some more than wanted: owners that are busy are passed by, each with no more than its webhooks.
    most = limit + 5 * MAX_WEBHOOKS
    return select(ranked.c.id).order_by(ranked.c.turn, ranked.c.due_tick, ranked.c.id).limit(most)


def _find(connection: Connection, webhook_id: str, owner: str) -> Row:
    query = select(webhooks).where(webhooks.c.id == webhook_id, webhooks.c.owner == owner)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise WebhookNotFound
    return row._asdict()


def _live(connection: Connection, webhook_id: str, owner: str) -> None:
    if _find(connection, webhook_id, owner)["disabled_at"] is not None:
        raise WebhookDisabled


def _webhook(row: Row) -> WebhookRecord:
    names = ("id", "owner", "url", "every_audit", "created_at", "disabled_at")
    return WebhookRecord(**{name: row[name] for name in names})


def _delivery(row: Row) -> DeliveryRecord:
    return DeliveryRecord(
        id=row["id"],
        webhook_id=row["webhook_id"],
        audit_id=row["audit_id"],
        kind=row["kind"],
        state=row["state"],
        created_at=row["created_at"],
        attempts=tuple(AttemptRecord(**attempt) for attempt in json.loads(row["attempts"])),
    )
