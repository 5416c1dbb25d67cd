"""Signatures of MLflow's events, held against MLflow's own code."""

import pytest

from service.errors import SignatureRefused
from service.mlflow import signatures

SECRET, NOW = "a shared secret", 1_800_000_000
BODY = '{"entity": "model_version", "text": "ä"}'


def signed(timestamp=str(NOW)):
    """By MLflow's own code, which takes seconds to import."""
    from mlflow.webhooks.delivery import _generate_hmac_signature

    return _generate_hmac_signature(SECRET, "d-1", timestamp, BODY)


def headers(**changes):
    return {"delivery_id": "d-1", "timestamp": str(NOW), "signature": signed()} | changes


def test_what_mlflow_signs_passes():
    from mlflow.webhooks import constants

    signatures.verify(SECRET, **headers(), body=BODY.encode(), now=NOW)
    signatures.verify(SECRET, **headers(), body=BODY.encode(), now=NOW + signatures.FRESH_S)
    assert signatures.sign(SECRET, "d-1", str(NOW), BODY.encode()) == headers()["signature"]
    assert (signatures.DELIVERY_ID, signatures.SIGNATURE, signatures.TIMESTAMP) == (
        constants.WEBHOOK_DELIVERY_ID_HEADER,
        constants.WEBHOOK_SIGNATURE_HEADER,
        constants.WEBHOOK_TIMESTAMP_HEADER,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"signature": None},
        {"timestamp": None},
        {"delivery_id": None},
        {"signature": ""},
        {"signature": "v1,"},
        {"signature": "v1,ä"},
        {"delivery_id": "d-2"},
        {"timestamp": str(NOW + 1)},
    ],
    ids=str,
)
def test_anything_else_is_refused(changes):
    with pytest.raises(SignatureRefused):
        signatures.verify(SECRET, **headers(**changes), body=BODY.encode(), now=NOW)


def test_another_secret_or_body_is_refused():
    with pytest.raises(SignatureRefused):
        signatures.verify("another", **headers(), body=BODY.encode(), now=NOW)
    with pytest.raises(SignatureRefused):
        signatures.verify(SECRET, **headers(), body=BODY.encode() + b" ", now=NOW)


@pytest.mark.parametrize("now", [NOW + signatures.FRESH_S + 1, NOW - 120])
def test_a_time_that_is_not_now_is_refused(now):
    with pytest.raises(SignatureRefused):
        signatures.verify(SECRET, **headers(), body=BODY.encode(), now=now)


@pytest.mark.parametrize("timestamp", ["", "now", "-5", "1e9", "١٨", "9" * 30])
def test_a_signed_time_that_is_no_number_is_refused(timestamp):
    sent = headers(timestamp=timestamp, signature=signed(timestamp))
    with pytest.raises(SignatureRefused):
        signatures.verify(SECRET, **sent, body=BODY.encode(), now=NOW)
