import base64
import json
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from service.webhooks import signing

BODY = json.dumps({"type": "audit.succeeded", "data": {"audit_id": "ä"}})


def test_a_receiver_accepts_the_message_and_no_changed_one():
    secret = signing.new_secret()
    now = int(datetime.now(UTC).timestamp())
    headers = signing.headers(secret, "msg_1", now, BODY)
    assert Webhook(secret).verify(BODY, headers) == json.loads(BODY)
    for changed in (
        headers | {"webhook-id": "msg_2"},
        headers | {"webhook-timestamp": str(now - 1)},
        headers | {"webhook-signature": "v1," + "A" * 43 + "="},
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(BODY, changed)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY + " ", headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(signing.new_secret()).verify(BODY, headers)


def test_it_is_the_signature_that_the_specification_has_for_this_message():
    """Id, time, secret and payload of the documentation's example, and what HMAC-SHA256 makes of them."""
    message, secret = "msg_p5jXN8AQM9LWM0D4loKWxJek", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert signing.headers(secret, message, 1_614_265_330, '{"test": 2432232314}') == {
        "webhook-id": message,
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_secrets_have_256_random_bits():
    secrets = {signing.new_secret() for _ in range(20)}
    assert len(secrets) == 20
    assert {len(base64.b64decode(secret.removeprefix("whsec_"))) for secret in secrets} == {32}
