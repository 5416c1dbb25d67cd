"""Ids by their beginning: a person types as much of one as tells it apart."""

import re
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from backdoor_audit.client.blocking import AuditClient
from backdoor_audit.client.errors import WrongUsage
from backdoor_audit.contract.ids import AUDIT_ID

_MIN_CHARS: Final = 4
_SHOWN: Final = 5


def audit_id(client: AuditClient, given: str) -> str:
    """The id of the one audit whose id begins with what was given, with or without ``audit_``.

    Raises:
        WrongUsage: it is no beginning of an id, or not of exactly one.
    """
    if re.fullmatch(AUDIT_ID, given):
        return given
    prefix = _prefix("audit", given)
    found = (audit.id for audit in client.audits(id_prefix=prefix))
    return _only("audit", given, list(islice(found, _SHOWN + 1)))


def entry_id(client: AuditClient, library: str, given: str) -> str:
    """The same for an entry of a benign library."""
    return _of("entry", given, (entry.id for entry in client.library_entries(library)))


def key_id(client: AuditClient, given: str) -> str:
    """The same for an API key."""
    keys = client.keys()
    return _of("key", given, (key.id for key in keys))


def _of(kind: str, given: str, ids: Iterable[str]) -> str:
    if re.fullmatch(rf"{kind}_[0-9a-z]{{26}}", given):
        return given
    prefix = _prefix(kind, given)
    return _only(kind, given, [one for one in ids if one.startswith(prefix)])


def _prefix(kind: str, given: str) -> str:
    beginning = given.strip().lower().removeprefix(f"{kind}_")
    if re.fullmatch(f"[0-9a-z]{{{_MIN_CHARS},26}}", beginning) is None:
        raise WrongUsage(
            f"{given} is not the id of {'an' if kind[0] in 'ae' else 'a'} {kind}",
            hint=f"an id looks like {kind}_01jd8x3v9q6w2r5t7y9b1c3d5f; its first {_MIN_CHARS} letters or more will do",
        )
    return f"{kind}_{beginning}"


def _only(kind: str, given: str, found: Sequence[str]) -> str:
    if len(found) == 1:
        return found[0]
    if not found:
        hint = "backdoor-audit list shows the audits" if kind == "audit" else ""
        raise WrongUsage(f"no {kind} begins with {given}", hint=hint)
    more = " and more" if len(found) > _SHOWN else ""
    raise WrongUsage(f"several begin with {given}: {', '.join(found[:_SHOWN])}{more}", hint="type more of the id")
