"""Client of a Backdoor Audit service: ``AuditClient``, ``AsyncAuditClient``, and the command ``backdoor-audit``.

Both clients are loaded when they are first asked for, so that who needs only ``backdoor_audit.contract`` loads no HTTP
library.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backdoor_audit.client.asynchronous import AsyncAuditClient
    from backdoor_audit.client.blocking import AuditClient

__all__ = ["AsyncAuditClient", "AuditClient"]


def __getattr__(name: str) -> Any:
    if name == "AuditClient":
        from backdoor_audit.client.blocking import AuditClient

        return AuditClient
    if name == "AsyncAuditClient":
        from backdoor_audit.client.asynchronous import AsyncAuditClient

        return AsyncAuditClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
