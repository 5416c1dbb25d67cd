"""The queue: in which order the queued audits are taken, so that an owner's many audits do not starve another's."""

from collections import Counter

from sqlalchemy import Connection, select

from jobs.audits import states
from jobs.database.tables import audits, turns


def in_turn(connection: Connection, *, per_owner: int | None = None) -> list[str]:
    """Return the ids of the queued audits in the order in which workers take them.

    First the oldest audit of every owner, then the second, and so on. Among the owners the one with the fewest running
    audits comes first, then the one whose last turn was longest ago.

    Args:
        connection: of the transaction.
        per_owner: leave out what an owner has queued beyond so many; None for all.
    """
    # Sorted here and not by the database: each query is a walk along an index.
    queued = connection.execute(
        select(audits.c.id, audits.c.owner).where(audits.c.status == "queued").order_by(audits.c.id)
    ).all()
    if not queued:
        return []
    busy = Counter(connection.execute(select(audits.c.owner).where(audits.c.status.in_(states.LIVE))).scalars())
    owners = {owner for _, owner in queued}
    taken = select(turns.c.owner, turns.c.turn).where(turns.c.owner.in_(owners))
    last = {row.owner: row.turn for row in connection.execute(taken)}
    seen: Counter[str] = Counter()
    order: list[tuple[int, int, int, str]] = []
    for audit_id, owner in queued:
        seen[owner] += 1
        if per_owner is None or seen[owner] <= per_owner:
            order.append((seen[owner], busy[owner], last.get(owner, 0), audit_id))
    return [audit_id for *_, audit_id in sorted(order)]
