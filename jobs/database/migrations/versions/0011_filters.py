"""What listings filter by, from the specs: the models and the labels."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_MODELS = ("base_model", "fine_tuned")


def _id() -> sa.String:
    return sa.String(40).with_variant(sa.String(40, collation="C"), "postgresql")


def upgrade() -> None:
    for name in _MODELS:
        op.add_column("audits", sa.Column(name, sa.String(512)))
    op.create_table(
        "audit_labels",
        sa.Column("audit_id", _id(), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.String(256), nullable=False),
        sa.PrimaryKeyConstraint("audit_id", "name", name="pk_audit_labels"),
        sa.ForeignKeyConstraint(["audit_id"], ["audits.id"], name="fk_audit_labels_audit_id", ondelete="CASCADE"),
    )
    _fill()
    for name in _MODELS:
        op.create_index(f"ix_audits_{name}_id", "audits", [name, "id"])
    op.create_index("ix_audit_labels_name_value_audit_id", "audit_labels", ["name", "value", "audit_id"])


def _fill() -> None:
    """Read every spec once; one at a time, as each may hold megabytes of prompts."""
    audits = sa.table("audits", *(sa.column(name, sa.String) for name in ("id", *_MODELS)))
    specs = sa.table("specs", sa.column("audit_id", sa.String), sa.column("body", sa.Text))
    labels = sa.table("audit_labels", *(sa.column(name, sa.String) for name in ("audit_id", "name", "value")))
    connection = op.get_bind()
    for audit_id in connection.execute(sa.select(specs.c.audit_id)).scalars().all():
        spec = json.loads(connection.execute(sa.select(specs.c.body).where(specs.c.audit_id == audit_id)).scalar_one())
        models = {name: spec[name] for name in _MODELS}
        connection.execute(sa.update(audits).where(audits.c.id == audit_id).values(**models))
        rows = [{"audit_id": audit_id, "name": name, "value": value} for name, value in spec["labels"].items()]
        if rows:
            connection.execute(sa.insert(labels), rows)


def downgrade() -> None:
    op.drop_table("audit_labels")
    for name in _MODELS:
        op.drop_index(f"ix_audits_{name}_id", "audits")
        op.drop_column("audits", name)
