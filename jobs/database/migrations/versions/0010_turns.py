"""Whose turn it was: so that an owner's many audits do not starve another's."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "turns",
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("turn", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("owner", name="pk_turns"),
    )


def downgrade() -> None:
    op.drop_table("turns")
