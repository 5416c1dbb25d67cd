"""Webhooks, without HTTP."""

import pytest

from jobs.errors import InvalidPageToken, WebhookNotFound
from service import page_tokens
from service.errors import InvalidRequest, TooManyRequests
from service.http.rates import RateLimit
from service.webhooks.service import EXTRA_PER_MINUTE, create_webhook, list_deliveries, take_extra_message

URL = "https://ci.example/hook"


@pytest.fixture
def webhook(dependencies):
    record, _ = create_webhook(dependencies, "ann", URL, every_audit=False)
    return record


def test_the_secret_is_told_once_and_no_two_are_alike(dependencies):
    secrets = set()
    for number in range(3):
        record, secret = create_webhook(dependencies, "ann", f"{URL}/{number}", every_audit=True)
        assert secret.startswith("whsec_")
        assert secret not in repr(dependencies.ledger.webhooks.get(record.id, owner="ann"))
        secrets.add(secret)
    assert len(secrets) == 3


@pytest.mark.parametrize(
    "url", ["http://ci.example/hook", "https://127.0.0.1/", "https://[::1]/", "https://10.0.0.1/x"]
)
def test_an_address_that_is_never_connected_to_is_not_registered(dependencies, url):
    with pytest.raises(InvalidRequest) as caught:
        create_webhook(dependencies, "ann", url, every_audit=True)
    assert [item.pointer for item in caught.value.errors] == ["#/url"]
    assert dependencies.ledger.webhooks.list(owner="ann") == ()


@pytest.mark.parametrize("page_size", [1, 2, 3, 7, 8, 200])
def test_pages_hold_every_delivery_once_newest_first(dependencies, webhook, page_size):
    made = [dependencies.ledger.webhooks.test(webhook.id, owner="ann").id for _ in range(7)]
    seen, token, pages = [], None, 0
    while pages == 0 or token is not None:
        page, token = list_deliveries(dependencies, "ann", webhook.id, page_token=token, page_size=page_size)
        assert len(page) <= page_size
        seen += [record.id for record in page]
        pages += 1
    assert seen == sorted(made, reverse=True)
    assert pages == -(-7 // page_size)


@pytest.mark.parametrize(
    "token", ["nonsense", page_tokens.encode("features", "msg_1"), page_tokens.encode("deliveries", "wh_1")]
)
def test_a_token_of_another_listing_is_refused(dependencies, webhook, token):
    with pytest.raises(InvalidPageToken):
        list_deliveries(dependencies, "ann", webhook.id, page_token=token, page_size=5)


def test_another_owner_sees_no_deliveries(dependencies, webhook):
    with pytest.raises(WebhookNotFound):
        list_deliveries(dependencies, "bob", webhook.id, page_token=None, page_size=5)


def test_each_owner_has_an_allowance_of_extra_messages():
    now = [0.0]
    rates = RateLimit(EXTRA_PER_MINUTE, clock=lambda: now[0])
    for _ in range(EXTRA_PER_MINUTE):
        take_extra_message(rates, "ann")
    with pytest.raises(TooManyRequests):
        take_extra_message(rates, "ann")
    take_extra_message(rates, "bob")
    now[0] += 60 / EXTRA_PER_MINUTE
    take_extra_message(rates, "ann")
    with pytest.raises(TooManyRequests):
        take_extra_message(rates, "ann")
