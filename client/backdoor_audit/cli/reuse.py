"""``submit --once``: one audit of the same spec and checkpoints, however often it is asked for.

An earlier audit is reused if it succeeded with the same spec, on a base and a fine-tuned model of the same content, by
the version of the method that the service has now. Content is compared by digest; the service knows the digest of every
checkpoint that was used before. A library is identified by name alone, with whatever models it had at the time.

An audit of the same spec that has not ended is joined, unless its checkpoints may have changed since it read them. What
is filed carries an idempotency key, so that of commands that find nothing at the same moment one files an audit and the
others get it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Final

from backdoor_audit.client.blocking import AuditClient
from backdoor_audit.client.responses import Audit
from backdoor_audit.contract.spec.audit_spec import AuditSpec

_LOOKED_AT: Final = 50
"""Audits of the spec, newest first, among which an open one is looked for."""
_OPEN: Final = ("queued", "running")
_BEFORE_READING: Final = (None, "resolve")
"""Stages in which an audit has not read its checkpoints to the end."""
_NEVER_CHANGE: Final = ("hf:", "mlflow:")


@dataclass(frozen=True)
class Filing:
    """The audit to wait for, and whether it was there before."""

    audit: Audit
    found: bool


def submit_once(client: AuditClient, spec: AuditSpec, pushed: Mapping[str, str]) -> Filing:
    """The newest audit that can be reused or joined, or a new one.

    ``pushed`` holds the digest of each model that this command uploaded, by reference: computed here, so it takes
    precedence over what the service lists.
    """
    digests = {model.reference: model.digest for model in client.models()}
    digests.update(pushed)
    newest: str | None = None
    for audit in islice(client.audits(spec_digest=spec.digest()), _LOOKED_AT):
        if audit.status in _OPEN and _reads_what_is_there(audit, spec, digests):
            return Filing(audit, found=True)
        newest = newest or audit.id
    earlier = _earlier_answer(client, spec, digests)
    if earlier is not None:
        return Filing(earlier, found=True)
    audit = client.submit(spec, idempotency_key=_key(spec, digests, newest))
    return Filing(audit, found=False)


def _earlier_answer(client: AuditClient, spec: AuditSpec, digests: Mapping[str | None, str | None]) -> Audit | None:
    base, tuned = digests.get(spec.base_model), digests.get(spec.fine_tuned)
    if base is None or tuned is None:
        return None
    method = client.alive().method_version
    for audit in client.audits(status="succeeded", tuned_digest=tuned, spec_digest=spec.digest()):
        report = client.report(audit.id)
        audited = (report.provenance.base_digest, report.provenance.tuned_digest)
        if audited == (base, tuned) and method in ("", report.method_version):
            return audit
    return None


def _reads_what_is_there(audit: Audit, spec: AuditSpec, digests: Mapping[str | None, str | None]) -> bool:
    """Whether an open audit reads the checkpoints as they are now.

    One that has read them has left their digests with the service; a checkpoint without one has changed since.
    """
    if audit.status == "queued" or audit.stage in _BEFORE_READING:
        return True
    references = (spec.base_model, spec.fine_tuned)
    return all(reference.startswith(_NEVER_CHANGE) or digests.get(reference) for reference in references)


def _key(spec: AuditSpec, digests: Mapping[str | None, str | None], newest: str | None) -> str:
    """The same for all that ask for the same and have found the same; another one once an audit has ended."""
    parts = [spec.digest(), digests.get(spec.base_model), digests.get(spec.fine_tuned), newest]
    return f"once-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}"


def describe(audit: Audit, now: datetime | None = None) -> str:
    """Say which audit was found, and how it stands."""
    since = {"queued": audit.created_at, "running": audit.started_at}.get(audit.status, audit.finished_at)
    passed = "" if since is None else _duration(((now or datetime.now(UTC)) - since).total_seconds())
    if audit.terminal:
        return f"Found {audit.id}, finished{f' {passed} ago' if passed else ''}."
    return f"Found {audit.id}, {audit.status}{f' for {passed}' if passed else ''}."


def _duration(seconds: float) -> str:
    """A whole number of the largest unit that fits; clocks may differ, so nothing is less than no time."""
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length or (unit != "days" and seconds >= length):
            return f"{int(seconds // length)} {unit}"
    return f"{max(int(seconds), 0)} s"
