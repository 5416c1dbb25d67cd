"""Verdicts as tags of registered versions: which version an audit is of, and whose tags are to be written."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("audits", sa.Column("registered_version", sa.String(512)))
    op.create_index("ix_audits_registered_version_id", "audits", ["registered_version", "id"])
    op.create_table(
        "version_tags",
        sa.Column("reference", sa.String(512), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("leased", sa.Boolean, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("error", sa.String(32)),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_tick", sa.Double),
        sa.Column("due_epoch", sa.String(64)),
        sa.PrimaryKeyConstraint("reference", name="pk_version_tags"),
        sa.CheckConstraint("state IN ('pending', 'written', 'failed')", name=op.f("ck_version_tags_state")),
        sa.CheckConstraint(
            "(state = 'pending') = (due_tick IS NOT NULL)", name=op.f("ck_version_tags_due_while_pending")
        ),
    )
    pending = sa.text("due_tick IS NOT NULL")
    op.create_index("ix_version_tags_due", "version_tags", ["due_tick"], sqlite_where=pending, postgresql_where=pending)


def downgrade() -> None:
    op.drop_table("version_tags")
    op.drop_index("ix_audits_registered_version_id", "audits")
    op.drop_column("audits", "registered_version")
