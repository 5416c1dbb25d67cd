"""The outbox of webhooks: what is to be said, written in the transaction that makes it true.

An audit's end and the messages about it commit together, so a crash loses neither: whoever sends finds the messages in
the table. A message is sent at least once; its id stays the same, so that the receiver can recognise a repetition.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, insert, or_, select

from jobs.clock import Instant
from jobs.database.tables import deliveries, webhooks
from jobs.errors import UnknownWebhook
from jobs.ids import new_id

Row = Mapping[str, Any]

TEST: Final = "webhook.test"
"""The kind of a test message."""


def announce(connection: Connection, row: Row, now: Instant) -> None:
    """File the news that an audit has ended for every webhook of its owner that wants it; ``row`` as it is then."""
    wanted = or_(webhooks.c.every_audit, webhooks.c.id == row["webhook_id"])
    query = select(webhooks.c.id).where(webhooks.c.owner == row["owner"], webhooks.c.disabled_at.is_(None), wanted)
    news = {"audit_id": row["id"], "status": row["status"], "verdict": row["verdict"]}
    for webhook_id in connection.execute(query).scalars().all():
        put(connection, now, webhook_id, f"audit.{row['status']}", news, audit_id=row["id"])


def put(
    connection: Connection, now: Instant, webhook_id: str, kind: str, data: Mapping[str, Any], *, audit_id: str | None
) -> Row:
    """File one message, due at once; return its row."""
    row: dict[str, Any] = {
        "id": new_id("msg_"),
        "webhook_id": webhook_id,
        "audit_id": audit_id,
        "kind": kind,
        "body": json.dumps({"type": kind, "timestamp": now.at.isoformat(), "data": data}),
        "state": "pending",
        "tries": 0,
        "attempts": "[]",
        "created_at": now.at,
        **now.due_in(0),
    }
    connection.execute(insert(deliveries).values(**row))
    return row


def webhook_id_of(connection: Connection, owner: str, url: str) -> str:
    """Return the id of the owner's webhook with this address, for an audit that names it.

    Raises:
        UnknownWebhook: there is none.
    """
    query = select(webhooks.c.id).where(webhooks.c.owner == owner, webhooks.c.url == url)
    found: str | None = connection.execute(query).scalar_one_or_none()
    if found is None:
        raise UnknownWebhook
    return found
