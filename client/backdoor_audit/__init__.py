"""Client of a Backdoor Audit service: ``AuditClient``, ``AsyncAuditClient``, ``AuditSpec``, and the command.

They are imported on first use: a program that needs only ``backdoor_audit.contract`` loads no HTTP library.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backdoor_audit.client.asynchronous import AsyncAuditClient
    from backdoor_audit.client.blocking import AuditClient
    from backdoor_audit.client.retry import RetryPolicy
    from backdoor_audit.contract.spec.audit_spec import AuditSpec

__all__ = ["AsyncAuditClient", "AuditClient", "AuditSpec", "RetryPolicy"]


_MODULES = {
    "AsyncAuditClient": "backdoor_audit.client.asynchronous",
    "AuditClient": "backdoor_audit.client.blocking",
    "AuditSpec": "backdoor_audit.contract.spec.audit_spec",
    "RetryPolicy": "backdoor_audit.client.retry",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
