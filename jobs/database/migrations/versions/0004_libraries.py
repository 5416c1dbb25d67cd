"""Benign libraries, their entries, and which audit compares with which library."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _id() -> sa.String:
    return sa.String(40).with_variant(sa.String(40, collation="C"), "postgresql")


def _moment() -> sa.DateTime:
    return sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "libraries",
        sa.Column("id", _id(), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("created_at", _moment(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_libraries"),
    )
    op.create_index("ix_libraries_owner_id", "libraries", ["owner", "id"])
    op.create_index("ix_libraries_owner_name", "libraries", ["owner", "name"], unique=True)
    op.create_table(
        "library_entries",
        sa.Column("id", _id(), nullable=False),
        sa.Column("library_id", _id(), nullable=False),
        sa.Column("audit_id", _id()),
        sa.Column("tuned_digest", sa.String(80), nullable=False),
        sa.Column("fine_tuned", sa.String(512), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created_at", _moment(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_library_entries"),
        _foreign("library_entries", "library_id", "libraries", "CASCADE"),
        _foreign("library_entries", "audit_id", "audits", "SET NULL"),
    )
    op.create_index("ix_library_entries_audit_id", "library_entries", ["audit_id"])
    op.create_index("ix_library_entries_library_id_id", "library_entries", ["library_id", "id"])
    op.create_index(
        "ix_library_entries_library_id_tuned_digest", "library_entries", ["library_id", "tuned_digest"], unique=True
    )
    op.create_table(
        "audit_libraries",
        sa.Column("audit_id", _id(), nullable=False),
        sa.Column("library_id", _id(), nullable=False),
        sa.PrimaryKeyConstraint("audit_id", name="pk_audit_libraries"),
        _foreign("audit_libraries", "audit_id", "audits", "CASCADE"),
        _foreign("audit_libraries", "library_id", "libraries", "CASCADE"),
    )
    op.create_index("ix_audit_libraries_library_id", "audit_libraries", ["library_id"])


def _foreign(table: str, column: str, target: str, on_delete: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=f"fk_{table}_{column}", ondelete=on_delete)


def downgrade() -> None:
    for table in ("audit_libraries", "library_entries", "libraries"):
        op.drop_table(table)
