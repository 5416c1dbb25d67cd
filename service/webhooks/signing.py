"""Signatures as in Standard Webhooks 1.0 (https://www.standardwebhooks.com), symmetric scheme ``v1``."""

import base64
import secrets
from datetime import UTC, datetime
from typing import Final

from standardwebhooks import Webhook

_SECRET_BYTES: Final = 32


def new_secret() -> str:
    """Return a fresh signing secret, in the form that the Standard Webhooks libraries take."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def headers(secret: str, message_id: str, sent_at: int, body: str) -> dict[str, str]:
    """Return the three headers of a message; ``sent_at`` is in seconds of Unix time."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(sent_at),
        "webhook-signature": Webhook(secret).sign(message_id, datetime.fromtimestamp(sent_at, UTC), body),
    }
