"""Why a model is in a benign library though its audit's verdict is not no_evidence."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("library_entries", sa.Column("because", sa.Text))


def downgrade() -> None:
    op.drop_column("library_entries", "because")
