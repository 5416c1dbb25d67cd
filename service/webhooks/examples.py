"""Examples of webhooks and deliveries for the OpenAPI document."""

from typing import Any, Final

from service.audits.examples import AUDIT_ID

WEBHOOK_ID: Final = "wh_01jd8x3v9q6w2r5t7y9b1c3d5f"

DELIVERY_ID: Final = "msg_01jd8x3v9q6w2r5t7y9b1c3d5f"

WEBHOOK_SPEC: Final[dict[str, Any]] = {"url": "https://ci.example/hook"}

_WEBHOOK: Final[dict[str, Any]] = {
    "id": WEBHOOK_ID,
    "url": "https://ci.example/hook",
    "every_audit": True,
    "created_at": "2026-01-12T09:00:00Z",
    "disabled_at": None,
}

_PENDING: Final[dict[str, Any]] = {
    "id": DELIVERY_ID,
    "webhook_id": WEBHOOK_ID,
    "audit_id": None,
    "type": "webhook.test",
    "state": "pending",
    "created_at": "2026-01-12T09:33:20Z",
    "attempts": [],
}

_DELIVERED: Final = _PENDING | {
    "audit_id": AUDIT_ID,
    "type": "audit.succeeded",
    "state": "delivered",
    "attempts": [
        {"at": "2026-01-12T09:33:21Z", "status": 500, "error": "status", "seconds": 0.041},
        {"at": "2026-01-12T09:33:26Z", "status": 204, "error": None, "seconds": 0.038},
    ],
}

ANSWERS: Final[dict[str, Any]] = {
    "webhook_spec": {"summary": "For every audit of the owner", "value": WEBHOOK_SPEC},
    "webhook_created": {
        "summary": "A new webhook",
        "value": _WEBHOOK | {"secret": "whsec_" + "A" * 43 + "="},
    },
    "webhook": {"summary": "A webhook", "value": _WEBHOOK},
    "webhook_list": {"summary": "The only webhook", "value": {"webhooks": [_WEBHOOK]}},
    "delivery_pending": {"summary": "Not sent yet", "value": _PENDING},
    "delivery_page": {"summary": "Delivered at the second attempt", "value": {"deliveries": [_DELIVERED]}},
}
"""By name, as the document has them."""
