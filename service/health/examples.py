"""Examples of signs of life for the OpenAPI document."""

from typing import Any, Final

from backdoor_audit.contract.report.audit_report import METHOD_VERSION

ALIVE: Final = {"status": "alive", "method_version": METHOD_VERSION}

READY: Final = {"status": "ready"}

METRICS: Final = (
    "# HELP backdoor_audit_audits Audits in each state.\n"
    "# TYPE backdoor_audit_audits gauge\n"
    'backdoor_audit_audits{status="queued"} 3.0\n'
    'backdoor_audit_audits{status="running"} 1.0\n'
)

ANSWERS: Final[dict[str, Any]] = {
    "alive": {"summary": "Alive", "value": ALIVE},
    "ready": {"summary": "Ready", "value": READY},
    "metrics": {"summary": "Two of the metrics", "value": METRICS},
}
"""By name, as the document has them."""
