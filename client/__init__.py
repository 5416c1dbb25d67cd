"""The command ``backdoor-audit`` and a small typed HTTP client, blocking and asynchronous."""

from client.aio import AsyncAuditClient
from client.http import AuditClient

__all__ = ["AsyncAuditClient", "AuditClient"]
