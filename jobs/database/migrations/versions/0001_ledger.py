"""The ledger: audits, specs, reports, events, idempotency keys, counters."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TERMINAL = "status IN ('cancelled', 'failed', 'succeeded')"


def _audit_id() -> sa.String:
    return sa.String(40).with_variant(sa.String(40, collation="C"), "postgresql")


def _moment() -> sa.DateTime:
    return sa.DateTime(timezone=True)


def _of_audit(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["audit_id"], ["audits.id"], name=f"fk_{table}_audit_id", ondelete="CASCADE")


def upgrade() -> None:
    _create_audits()
    for table in ("specs", "reports"):
        op.create_table(
            table,
            sa.Column("audit_id", _audit_id(), nullable=False),
            sa.Column("body", sa.Text, nullable=False),
            sa.PrimaryKeyConstraint("audit_id", name=f"pk_{table}"),
            _of_audit(table),
        )
    op.create_table(
        "events",
        sa.Column("audit_id", _audit_id(), nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("at", _moment(), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("stage", sa.String(16)),
        sa.Column("progress", sa.Double, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("audit_id", "sequence", name="pk_events"),
        _of_audit("events"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("audit_id", _audit_id(), nullable=False),
        sa.Column("spec_digest", sa.String(80), nullable=False),
        sa.PrimaryKeyConstraint("owner", "key", name="pk_idempotency_keys"),
        _of_audit("idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_audit_id", "idempotency_keys", ["audit_id"])
    counters = op.create_table(
        "counters",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("value", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_counters"),
    )
    op.bulk_insert(counters, [{"name": "reaped", "value": 0}])


def _create_audits() -> None:
    op.create_table(
        "audits",
        sa.Column("id", _audit_id(), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("stage", sa.String(16)),
        sa.Column("event_fraction", sa.Double, nullable=False),
        sa.Column("progress", sa.Double, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("lost_attempts", sa.Integer, nullable=False),
        sa.Column("worker", sa.String(255)),
        sa.Column("spec_digest", sa.String(80), nullable=False),
        sa.Column("verdict", sa.String(16)),
        sa.Column("failure", sa.Text),
        sa.Column("created_at", _moment(), nullable=False),
        sa.Column("queued_at", _moment(), nullable=False),
        sa.Column("started_at", _moment()),
        sa.Column("finished_at", _moment()),
        sa.Column("deadline_at", _moment()),
        sa.Column("deadline_tick", sa.Double),
        sa.Column("deadline_epoch", sa.String(64)),
        sa.Column("due_tick", sa.Double),
        sa.Column("due_epoch", sa.String(64)),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("last_event", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audits"),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'cancelling', 'succeeded', 'failed', 'cancelled')",
            name=op.f("ck_audits_status"),
        ),
        sa.CheckConstraint(
            "verdict IS NULL OR verdict IN ('flagged', 'review', 'no_evidence', 'invalid')",
            name=op.f("ck_audits_verdict"),
        ),
        sa.CheckConstraint(
            "(status = 'succeeded') = (verdict IS NOT NULL)", name=op.f("ck_audits_verdict_when_succeeded")
        ),
        sa.CheckConstraint("(status = 'failed') = (failure IS NOT NULL)", name=op.f("ck_audits_failure_when_failed")),
        sa.CheckConstraint(f"({_TERMINAL}) = (finished_at IS NOT NULL)", name=op.f("ck_audits_finished_when_terminal")),
        sa.CheckConstraint(f"({_TERMINAL}) = (due_tick IS NULL)", name=op.f("ck_audits_due_until_terminal")),
    )
    op.create_index("ix_audits_owner_id", "audits", ["owner", "id"])
    op.create_index("ix_audits_status_id", "audits", ["status", "id"])
    op.create_index("ix_audits_verdict_id", "audits", ["verdict", "id"])
    active = sa.text("due_tick IS NOT NULL")
    op.create_index("ix_audits_due", "audits", ["due_tick"], sqlite_where=active, postgresql_where=active)


def downgrade() -> None:
    for table in ("counters", "idempotency_keys", "events", "reports", "specs", "audits"):
        op.drop_table(table)
