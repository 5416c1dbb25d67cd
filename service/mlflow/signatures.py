"""Checks that an event comes from the MLflow server that knows our secret, and that it is recent.

MLflow signs ``delivery id . timestamp . body`` with HMAC-SHA256, in the manner of Standard Webhooks but with its own
headers and the secret as plain text (``mlflow.webhooks.delivery`` of MLflow 3.17; its documentation of webhooks).
"""

import base64
import hashlib
import hmac
import time
from typing import Final

from service.errors import SignatureRefused

SIGNATURE: Final = "X-MLflow-Signature"
TIMESTAMP: Final = "X-MLflow-Timestamp"
DELIVERY_ID: Final = "X-MLflow-Delivery-Id"

FRESH_S: Final = 300
"""Maximum age of an event. MLflow's own retries carry the time of the first attempt."""
_AHEAD_S: Final = 60
"""How far the sender's clock may be ahead."""
_VERSION: Final = "v1,"


def sign(secret: str, delivery_id: str, timestamp: str, body: bytes) -> str:
    """The signature of an event, as written in its header."""
    signed = f"{delivery_id}.{timestamp}.".encode() + body
    return _VERSION + base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()


def verify(
    secret: str, *, signature: str | None, timestamp: str | None, delivery_id: str | None, body: bytes,
    now: float | None = None,
) -> None:  # fmt: skip
    """Accept an event that is signed with the secret and recent.

    Args:
        secret: the secret that the webhook was registered with at the MLflow server.
        signature, timestamp, delivery_id: the headers; None if there is none.
        body: as it was received.
        now: seconds of Unix time, for tests.

    Raises:
        SignatureRefused: it is not; the reason is not given.
    """
    if signature is None or timestamp is None or delivery_id is None:
        raise SignatureRefused
    expected = sign(secret, delivery_id, timestamp, body)
    # Compared first, so that the timestamp is known to come from the sender.
    if not hmac.compare_digest(expected.encode(), signature.encode()):
        raise SignatureRefused
    if not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > 12:
        raise SignatureRefused
    age_s = (time.time() if now is None else now) - int(timestamp)
    if not -_AHEAD_S <= age_s <= FRESH_S:
        raise SignatureRefused
