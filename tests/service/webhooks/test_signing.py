import base64
import json
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from service.webhooks import signing

BODY = json.dumps({"type": "audit.succeeded", "data": {"audit_id": "ä"}})


def test_the_library_of_standard_webhooks_takes_our_signature():
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


def test_it_is_the_librarys_own_signature():
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    at = datetime(2021, 2, 25, 22, 0, 14, tzinfo=UTC)
    ours = signing.headers(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", int(at.timestamp()), '{"test": 2432232314}')
    theirs = Webhook(secret).sign("msg_p5jXN8AQM9LWM0D4loKWxJek", at, '{"test": 2432232314}')
    assert ours["webhook-signature"] == theirs


def test_secrets_have_256_random_bits():
    secrets = {signing.new_secret() for _ in range(20)}
    assert len(secrets) == 20
    assert {len(base64.b64decode(secret.removeprefix("whsec_"))) for secret in secrets} == {32}
