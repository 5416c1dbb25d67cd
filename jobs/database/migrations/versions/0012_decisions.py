"""What people decided about audits."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def _id() -> sa.String:
    return sa.String(40).with_variant(sa.String(40, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "decisions",
        sa.Column("audit_id", _id(), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("id", _id(), nullable=False),
        sa.Column("choice", sa.String(16), nullable=False),
        sa.Column("decided_by", sa.String(255), nullable=False),
        sa.Column("because", sa.Text, nullable=False),
        sa.Column("key_id", _id()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("audit_id", "number", name="pk_decisions"),
        sa.ForeignKeyConstraint(["audit_id"], ["audits.id"], name="fk_decisions_audit_id", ondelete="CASCADE"),
        sa.CheckConstraint("choice IN ('accepted', 'rejected', 'needs_work')", name="choice"),
    )


def downgrade() -> None:
    op.drop_table("decisions")
