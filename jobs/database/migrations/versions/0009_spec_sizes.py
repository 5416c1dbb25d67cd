"""How long each stored spec is, so that a page of a listing can be bounded before the specs are read."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("specs", sa.Column("chars", sa.Integer, nullable=False, server_default="0"))
    op.execute("UPDATE specs SET chars = length(body)")


def downgrade() -> None:
    op.drop_column("specs", "chars")
