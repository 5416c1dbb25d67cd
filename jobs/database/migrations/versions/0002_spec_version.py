"""Specs say which version of the spec they were filed as."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("specs", sa.Column("version", sa.String(16), nullable=False, server_default="1.0"))
