# Written by `python -m tools.unasync --write` from ../asynchronous; do not edit.
"""The blocking client."""

from backdoor_audit.client.blocking.client import AuditClient

__all__ = ["AuditClient"]
