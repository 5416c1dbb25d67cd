"""Examples of API keys for the OpenAPI document."""

from typing import Any, Final

KEY_ID: Final = "key_01jd8x3v9q6w2r5t7y9b1c3d5f"

_KEY: Final[dict[str, Any]] = {
    "id": KEY_ID,
    "owner": "ci",
    "name": "pipeline",
    "scopes": ["audits:read", "audits:write"],
    "created_at": "2026-01-12T09:30:00Z",
    "expires_at": "2026-04-12T09:30:00Z",
    "revoked_at": None,
}

KEY_SPEC: Final[dict[str, Any]] = {
    "name": "pipeline",
    "scopes": ["audits:read", "audits:write"],
    "owner": "ci",
    "expires_in_s": 90 * 86_400,
}

ANSWERS: Final[dict[str, Any]] = {
    "key_spec": {"summary": "For a pipeline, valid for 90 days", "value": KEY_SPEC},
    "key_created": {
        "summary": "A new key",
        "value": _KEY | {"key": "ba_" + KEY_ID.removeprefix("key_") + "_" + "0" * 52},
    },
    "key_list": {"summary": "The only key", "value": {"keys": [_KEY]}},
}
"""By name, as the document has them."""
