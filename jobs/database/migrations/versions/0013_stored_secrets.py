"""Signing secrets that may be encrypted, and then are longer.

A new column, because SQLite changes none: a table that is made anew would take its deliveries with it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("webhooks", sa.Column("stored_secret", sa.String(512), nullable=False, server_default=""))
    op.execute("UPDATE webhooks SET stored_secret = secret")
    op.drop_column("webhooks", "secret")


def downgrade() -> None:
    op.add_column("webhooks", sa.Column("secret", sa.String(64), nullable=False, server_default=""))
    # One that is encrypted is longer than an earlier version stores.
    op.execute("UPDATE webhooks SET secret = substr(stored_secret, 1, 64)")
    op.drop_column("webhooks", "stored_secret")
