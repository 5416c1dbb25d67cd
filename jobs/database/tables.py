"""The tables of the ledger.

``audits`` holds what changes and is small: it is read at every poll. Specs (up to megabytes of prompts) and reports lie
in tables of their own. Every change of an audit locks its row first, so the row is also the lock of its events.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, get_args

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

from backdoor_audit.contract.decisions import Choice
from backdoor_audit.contract.lifecycle import TERMINAL, Status
from backdoor_audit.contract.report.verdicts import Verdict

NAMING: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
MAX_NAME: Final = 255
"""Longest owner, idempotency key or worker name, characters."""

BATCH_LABEL: Final = ":batch"
"""Name under which the labels hold an audit's batch; no label of a spec begins with a colon."""

MAX_URL: Final = 2_000
"""Longest address of a webhook, characters."""

MAX_REFERENCE: Final = 512
"""Longest model reference, characters."""

metadata: Final = MetaData(naming_convention=NAMING)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC; SQLite keeps no zone, so there it is stored without and given back with one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Bring the value to UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Restore the time zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _audit_id() -> String:
    # Ids are compared byte by byte on both databases, whatever the locale: keyset pages depend on it.
    return String(40).with_variant(String(40, collation="C"), "postgresql")


def _owned_by_audit(**options: Any) -> Column[str]:
    return Column("audit_id", _audit_id(), ForeignKey("audits.id", ondelete="CASCADE"), nullable=False, **options)


def _one_of(column: str, values: Sequence[str]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


_TERMINAL: Final = _one_of("status", sorted(TERMINAL))

audits: Final = Table(
    "audits",
    metadata,
    Column("id", _audit_id(), primary_key=True),
    Column("owner", String(MAX_NAME), nullable=False),
    Column("status", String(16), nullable=False),
    Column("stage", String(16)),
    # The fraction of the stage at the last event of the history, to tell when the next one is due.
    Column("event_fraction", Double, nullable=False),
    Column("progress", Double, nullable=False),
    Column("message", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    # Attempts whose lease ran out; these count against the limit, released ones do not.
    Column("lost_attempts", Integer, nullable=False),
    Column("worker", String(MAX_NAME)),
    Column("spec_digest", String(80), nullable=False),
    # From the report, so that an answer about the same weights can be found.
    Column("tuned_digest", String(80)),
    Column("verdict", String(16)),
    Column("failure", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("queued_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("deadline_at", UtcDateTime),
    Column("deadline_tick", Double),
    Column("deadline_epoch", String(64)),
    # When the reaper looks at the row: the end of the lease while it is worked on, the time to enqueue it again while
    # it is queued, nothing once it has ended.
    Column("due_tick", Double),
    Column("due_epoch", String(64)),
    Column("version", Integer, nullable=False),
    Column("last_event", Integer, nullable=False),
    # The webhook that the spec names; no foreign key, as it may be removed meanwhile.
    Column("webhook_id", _audit_id()),
    # As the spec names them, for listings.
    Column("base_model", String(MAX_REFERENCE)),
    Column("fine_tuned", String(MAX_REFERENCE)),
    # The version of a registered model that is audited, as the spec names it: its tags say what came out.
    Column("registered_version", String(MAX_REFERENCE)),
    CheckConstraint(_one_of("status", get_args(Status)), name="status"),
    CheckConstraint(f"verdict IS NULL OR {_one_of('verdict', get_args(Verdict))}", name="verdict"),
    CheckConstraint("(status = 'succeeded') = (verdict IS NOT NULL)", name="verdict_when_succeeded"),
    CheckConstraint("(status = 'failed') = (failure IS NOT NULL)", name="failure_when_failed"),
    CheckConstraint(f"({_TERMINAL}) = (finished_at IS NOT NULL)", name="finished_when_terminal"),
    CheckConstraint(f"({_TERMINAL}) = (due_tick IS NULL)", name="due_until_terminal"),
)
Index("ix_audits_owner_id", audits.c.owner, audits.c.id)
Index("ix_audits_status_id", audits.c.status, audits.c.id)
Index("ix_audits_tuned_digest_id", audits.c.tuned_digest, audits.c.id)
Index("ix_audits_spec_digest_id", audits.c.spec_digest, audits.c.id)
Index("ix_audits_verdict_id", audits.c.verdict, audits.c.id)
Index("ix_audits_base_model_id", audits.c.base_model, audits.c.id)
Index("ix_audits_fine_tuned_id", audits.c.fine_tuned, audits.c.id)
Index("ix_audits_registered_version_id", audits.c.registered_version, audits.c.id)
Index(
    "ix_audits_due",
    audits.c.due_tick,
    sqlite_where=text("due_tick IS NOT NULL"),
    postgresql_where=text("due_tick IS NOT NULL"),
)

specs: Final = Table(
    "specs",
    metadata,
    _owned_by_audit(primary_key=True),
    # ``backdoor_audit.contract.spec.audit_spec.SPEC_VERSION`` of the code that filed it.
    Column("version", String(16), nullable=False, server_default="1.0"),
    Column("body", Text, nullable=False),
    # Length of the body: a page of a listing holds so many characters of them and no more.
    Column("chars", Integer, nullable=False, server_default="0"),
)

# The labels of the specs, for listings.
audit_labels: Final = Table(
    "audit_labels",
    metadata,
    _owned_by_audit(primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("value", String(256), nullable=False),
    Index("ix_audit_labels_name_value_audit_id", "name", "value", "audit_id"),
)

# What people decided about audits; the last number of an audit holds. No row is ever changed.
decisions: Final = Table(
    "decisions",
    metadata,
    _owned_by_audit(primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("id", _audit_id(), nullable=False),
    Column("choice", String(16), nullable=False),
    Column("decided_by", String(MAX_NAME), nullable=False),
    Column("because", Text, nullable=False),
    # The key that the decision came with; no foreign key, as the decision outlives it.
    Column("key_id", _audit_id()),
    Column("created_at", UtcDateTime, nullable=False),
    CheckConstraint(_one_of("choice", get_args(Choice)), name="choice"),
)

reports: Final = Table("reports", metadata, _owned_by_audit(primary_key=True), Column("body", Text, nullable=False))

events: Final = Table(
    "events",
    metadata,
    _owned_by_audit(primary_key=True),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("stage", String(16)),
    Column("progress", Double, nullable=False),
    Column("message", Text, nullable=False),
)

idempotency_keys: Final = Table(
    "idempotency_keys",
    metadata,
    Column("owner", String(MAX_NAME), primary_key=True),
    Column("key", String(MAX_NAME), primary_key=True),
    _owned_by_audit(index=True),
    Column("spec_digest", String(80), nullable=False),
)

api_keys: Final = Table(
    "api_keys",
    metadata,
    Column("id", _audit_id(), primary_key=True),
    Column("owner", String(MAX_NAME), nullable=False),
    Column("name", String(MAX_NAME), nullable=False),
    # Names of scopes with spaces between them.
    Column("scopes", String(MAX_NAME), nullable=False),
    # SHA-256 of the secret, hexadecimal; the secret itself is nowhere.
    Column("digest", String(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
)

webhooks: Final = Table(
    "webhooks",
    metadata,
    Column("id", _audit_id(), primary_key=True),
    Column("owner", String(MAX_NAME), nullable=False),
    Column("url", String(MAX_URL), nullable=False),
    # Messages are signed with it, so it cannot be hashed. The API encrypts it, if the operator has given it a key.
    Column("stored_secret", String(512), nullable=False),
    # Whether it is notified of every audit of its owner, or only of those that name it.
    Column("every_audit", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    # Set when the receiver answered 410 Gone.
    Column("disabled_at", UtcDateTime),
    UniqueConstraint("owner", "url"),
)

deliveries: Final = Table(
    "deliveries",
    metadata,
    Column("id", _audit_id(), primary_key=True),
    Column("webhook_id", _audit_id(), ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    # No foreign key: messages about an audit outlive it.
    Column("audit_id", _audit_id()),
    Column("kind", String(32), nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(16), nullable=False),
    # Attempts since it was filed or replayed: the place in the retry schedule.
    Column("tries", Integer, nullable=False),
    # A JSON list of all attempts, the last ones of many.
    Column("attempts", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("due_tick", Double),
    Column("due_epoch", String(64)),
    CheckConstraint(_one_of("state", ("pending", "delivered", "failed")), name="state"),
    CheckConstraint("(state = 'pending') = (due_tick IS NOT NULL)", name="due_while_pending"),
)
Index("ix_deliveries_webhook_id_id", deliveries.c.webhook_id, deliveries.c.id)
Index(
    "ix_deliveries_due",
    deliveries.c.due_tick,
    sqlite_where=text("due_tick IS NOT NULL"),
    postgresql_where=text("due_tick IS NOT NULL"),
)

version_tags: Final = Table(
    "version_tags",
    metadata,
    # One row per version, not per audit: one writer at a time writes a version's tags, from all its audits.
    Column("reference", String(MAX_REFERENCE), primary_key=True),
    Column("state", String(16), nullable=False),
    # Raised whenever an audit of the version ends, so that a writer sees that its tags are out of date.
    Column("generation", Integer, nullable=False),
    # Whether somebody writes them now, until ``due_tick``.
    Column("leased", Boolean, nullable=False),
    # Attempts since the last end.
    Column("tries", Integer, nullable=False),
    # Why the last attempt failed, in a word.
    Column("error", String(32)),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("due_tick", Double),
    Column("due_epoch", String(64)),
    CheckConstraint(_one_of("state", ("pending", "written", "failed")), name="state"),
    CheckConstraint("(state = 'pending') = (due_tick IS NOT NULL)", name="due_while_pending"),
)
Index(
    "ix_version_tags_due",
    version_tags.c.due_tick,
    sqlite_where=text("due_tick IS NOT NULL"),
    postgresql_where=text("due_tick IS NOT NULL"),
)

counters: Final = Table(
    "counters",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", Integer, nullable=False),
)

libraries: Final = Table(
    "libraries",
    metadata,
    Column("id", _audit_id(), primary_key=True),
    Column("owner", String(MAX_NAME), nullable=False),
    Column("name", String(MAX_NAME), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Index("ix_libraries_owner_id", "owner", "id"),
    Index("ix_libraries_owner_name", "owner", "name", unique=True),
)

library_entries: Final = Table(
    "library_entries",
    metadata,
    Column("id", _audit_id(), primary_key=True),
    Column("library_id", _audit_id(), ForeignKey("libraries.id", ondelete="CASCADE"), nullable=False),
    # The audit that the score is of; the entry outlives it.
    Column("audit_id", _audit_id(), ForeignKey("audits.id", ondelete="SET NULL"), index=True),
    Column("tuned_digest", String(80), nullable=False),
    Column("fine_tuned", String(512), nullable=False),
    Column("body", Text, nullable=False),
    # Why a model is taken to be benign though its audit's verdict is not no_evidence.
    Column("because", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Index("ix_library_entries_library_id_id", "library_id", "id"),
    Index("ix_library_entries_library_id_tuned_digest", "library_id", "tuned_digest", unique=True),
)

# When each owner last had a turn: a number that grows with every turn of anybody.
turns: Final = Table(
    "turns",
    metadata,
    Column("owner", String(MAX_NAME), primary_key=True),
    Column("turn", BigInteger, nullable=False),
)

# Which library an audit compares with: by id, so that a name that is given away again changes nothing.
audit_libraries: Final = Table(
    "audit_libraries",
    metadata,
    _owned_by_audit(primary_key=True),
    Column("library_id", _audit_id(), ForeignKey("libraries.id", ondelete="CASCADE"), nullable=False, index=True),
)
