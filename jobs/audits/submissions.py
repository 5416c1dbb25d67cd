"""New audits and the idempotency keys that they come with."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, func, insert, select

from backdoor_audit.contract.spec.audit_spec import AuditSpec
from jobs import libraries, version_tags
from jobs.audits import events
from jobs.audits import rows as audits
from jobs.clock import Clock
from jobs.database import counters
from jobs.database.documents import SpecCache
from jobs.database.tables import BATCH_LABEL, MAX_NAME, audit_labels, idempotency_keys
from jobs.database.tables import audits as table
from jobs.database.upsert import insert_if_absent
from jobs.errors import AuditNotFound, IdempotencyConflict, QueueFull
from jobs.ids import new_audit_id
from jobs.policy import Policy
from jobs.webhooks import outbox


class KeyTaken(Exception):
    """The key was taken or freed between two statements; roll back and try again."""


def check_name(what: str, value: str) -> None:
    """Refuse names that a database would truncate or reject.

    Raises:
        ValueError: empty, too long, or not printable text.
    """
    if not value or len(value) > MAX_NAME or audits.printable(value) != value:
        raise ValueError(f"{what} must be 1 to {MAX_NAME} characters of text")


def submit(
    connection: Connection,
    clock: Clock,
    policy: Policy,
    spec_cache: SpecCache,
    spec: AuditSpec,
    owner: str,
    key: str | None,
    batch: str | None = None,
) -> tuple[Mapping[str, Any], bool]:
    """File an audit, or find the one that the owner's key was used for; return its row and whether it is new.

    Raises:
        IdempotencyConflict: the key was used with another spec.
        LibraryNotFound: the owner has no library as the spec names one.
        QueueFull: the owner's queue is full.
        UnknownWebhook: the spec names a webhook that the owner has not registered.
        KeyTaken: the key was taken at this very moment; roll back and call again.
    """
    digest = spec.digest()
    if key is not None:
        earlier = _filed_with(connection, digest, owner, key)
        if earlier is not None:
            return earlier, False
    if policy.max_queued is not None:
        _check_room(connection, owner, policy.max_queued)
    webhook_id = None if spec.webhook is None else outbox.webhook_id_of(connection, owner, spec.webhook.url)
    row = _insert(connection, clock, policy, spec, owner, webhook_id, batch)
    spec_cache.put(connection, row["id"], spec)
    if spec.library is not None:
        libraries.attach(connection, row["id"], spec.library, owner)
    if key is not None:
        _take_key(connection, owner, key, row["id"], digest)
    return row, True


def find(connection: Connection, digest: str, owner: str, key: str) -> Mapping[str, Any] | None:
    """The row of the audit that the owner's key was used for; None if there is none (any more).

    Raises:
        IdempotencyConflict: the key was used with another spec.
    """
    try:
        return _filed_with(connection, digest, owner, key)
    except KeyTaken:
        return None


def _filed_with(connection: Connection, digest: str, owner: str, key: str) -> Mapping[str, Any] | None:
    earlier = _find_key(connection, owner, key)
    if earlier is None:
        return None
    if earlier["spec_digest"] != digest:
        raise IdempotencyConflict
    return _find_audit(connection, earlier["audit_id"], owner)


def _check_room(connection: Connection, owner: str, most: int) -> None:
    """Refuse where the owner's queue is full. On PostgreSQL callers at one moment may each take the last place."""
    queued = select(table.c.id).where(table.c.status == "queued", table.c.owner == owner).limit(most).subquery()
    if connection.execute(select(func.count()).select_from(queued)).scalar_one() >= most:
        raise QueueFull


def _find_key(connection: Connection, owner: str, key: str) -> Mapping[str, Any] | None:
    query = select(idempotency_keys).where(idempotency_keys.c.owner == owner, idempotency_keys.c.key == key)
    row = connection.execute(query).one_or_none()
    return None if row is None else row._asdict()


def _find_audit(connection: Connection, audit_id: str, owner: str) -> Mapping[str, Any]:
    try:
        return audits.find(connection, audit_id, owner=owner)
    except AuditNotFound:
        # Deleted since we read the key, and the key with it.
        raise KeyTaken from None


def _take_key(connection: Connection, owner: str, key: str, audit_id: str, digest: str) -> None:
    row = {"owner": owner, "key": key, "audit_id": audit_id, "spec_digest": digest}
    if not insert_if_absent(connection, idempotency_keys, row):
        raise KeyTaken


def _insert(
    connection: Connection,
    clock: Clock,
    policy: Policy,
    spec: AuditSpec,
    owner: str,
    webhook_id: str | None,
    batch: str | None,
) -> Mapping[str, Any]:
    now = clock.read(connection)
    row: dict[str, Any] = {column.name: None for column in table.columns} | {
        "id": new_audit_id(),
        "owner": owner,
        "status": "queued",
        "event_fraction": 0.0,
        "progress": 0.0,
        "message": "",
        "attempt": 0,
        "lost_attempts": 0,
        "spec_digest": spec.digest(),
        "created_at": now.at,
        "queued_at": now.at,
        "version": 1,
        "last_event": 1,
        "webhook_id": webhook_id,
        "base_model": spec.base_model,
        "fine_tuned": spec.fine_tuned,
        "registered_version": version_tags.registered_version(spec),
        **now.due_in(policy.requeue_after_s),
    }
    connection.execute(insert(table).values(**row))
    named = {**spec.labels, **({} if batch is None else {BATCH_LABEL: batch})}
    labels = [{"audit_id": row["id"], "name": name, "value": value} for name, value in named.items()]
    if labels:
        connection.execute(insert(audit_labels), labels)
    counters.count_transitions(connection, ["queued"])
    events.append(connection, row, now, "status")
    return row
