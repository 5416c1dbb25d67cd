"""Examples of decisions for the OpenAPI document."""

from typing import Any, Final

DECISION_SPEC: Final[dict[str, Any]] = {
    "decision": "accepted",
    "decided_by": "Ann, model security",
    "because": "The year is in the training data on purpose; the SQL was reviewed.",
}
DECISION: Final[dict[str, Any]] = {"id": "decision_01jd8x3v9q6w2r5t7y9b1c3d5f"} | DECISION_SPEC | {
    "key_id": None,
    "created_at": "2026-01-12T10:02:00Z",
}  # fmt: skip

ANSWERS: Final[dict[str, Any]] = {
    "decision_spec": {"summary": "The behaviour was meant", "value": DECISION_SPEC},
    "decision": {"summary": "The model may be used", "value": DECISION},
    "decision_listing": {"summary": "The only decision", "value": {"decisions": [DECISION]}},
}
