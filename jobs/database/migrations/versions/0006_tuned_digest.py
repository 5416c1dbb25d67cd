"""What was audited, for finding earlier answers: the digest of the fine-tuned model, from the report."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("audits", sa.Column("tuned_digest", sa.String(80)))
    audits = sa.table("audits", sa.column("id", sa.String), sa.column("tuned_digest", sa.String))
    reports = sa.table("reports", sa.column("audit_id", sa.String), sa.column("body", sa.Text))
    connection = op.get_bind()
    ids = connection.execute(sa.select(reports.c.audit_id)).scalars().all()
    for audit_id in ids:
        body = connection.execute(sa.select(reports.c.body).where(reports.c.audit_id == audit_id)).scalar_one()
        digest = json.loads(body)["provenance"]["tuned_digest"]
        connection.execute(sa.update(audits).where(audits.c.id == audit_id).values(tuned_digest=digest))
    op.create_index("ix_audits_tuned_digest_id", "audits", ["tuned_digest", "id"])
    op.create_index("ix_audits_spec_digest_id", "audits", ["spec_digest", "id"])


def downgrade() -> None:
    op.drop_index("ix_audits_spec_digest_id", "audits")
    op.drop_index("ix_audits_tuned_digest_id", "audits")
    op.drop_column("audits", "tuned_digest")
