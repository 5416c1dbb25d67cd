"""The asynchronous client."""

from backdoor_audit.client.asynchronous.client import AsyncAuditClient

__all__ = ["AsyncAuditClient"]
