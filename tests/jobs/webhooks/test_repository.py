"""The outbox of webhooks and what senders take from it, on both databases."""

import json
import re

import pytest
from sqlalchemy import select, text

from backdoor_audit.contract.ids import WEBHOOK_ID
from backdoor_audit.contract.lifecycle import Failure
from jobs.database.tables import audits, deliveries
from jobs.errors import (
    DeliveryNotFound,
    TooManyWebhooks,
    UnknownWebhook,
    WebhookDisabled,
    WebhookNotFound,
    WebhookTaken,
)
from jobs.webhooks import repository as webhooks
from jobs.webhooks.records import AttemptRecord

URL = "https://a.example/hook"
REFUSED = AttemptRecord("2026-01-01T00:00:00+00:00", 500, "status", 0.1)
TAKEN = AttemptRecord("2026-01-01T00:00:01+00:00", 204, None, 0.1)


@pytest.fixture
def book(ledger):
    return ledger.webhooks


@pytest.fixture
def hook(book):
    return book.create(owner="ann", url=URL, stored_secret="whsec_1")


def news(book, webhook, owner="ann"):
    return [(one.kind, one.audit_id) for one in book.deliveries(webhook.id, owner=owner)]


def test_every_end_is_in_the_outbox(ledger, book, hook, spec, make_report, make_due):
    assert re.fullmatch(WEBHOOK_ID, hook.id)
    ids = [ledger.submit(spec, owner="ann").audit.id for _ in range(4)]
    ledger.succeed(ledger.claim(ids[0], worker="w"), make_report(ids[0]))
    ledger.fail(ledger.claim(ids[1], worker="w"), Failure(code="internal", message="x"))
    ledger.request_cancel(ids[2])
    for _ in range(3):
        ledger.claim(ids[3], worker="w")
        make_due(ledger, ids[3])
        ledger.reap()
    assert ledger.get(ids[3]).status == "failed"
    assert news(book, hook) == [
        ("audit.failed", ids[3]),
        ("audit.cancelled", ids[2]),
        ("audit.failed", ids[1]),
        ("audit.succeeded", ids[0]),
    ]
    first = book.deliveries(hook.id, owner="ann")[-1]
    (body,) = [one.body for one in book.take(limit=4, lease_s=10)]
    assert json.loads(body)["data"] == {"audit_id": ids[0], "status": "succeeded", "verdict": "flagged"}
    assert (first.state, first.attempts) == ("pending", ())


def test_an_end_that_is_not_written_is_not_told(ledger, book, hook, spec, make_report, monkeypatch):
    audit_id = ledger.submit(spec, owner="ann").audit.id
    claim = ledger.claim(audit_id, worker="w")
    monkeypatch.setattr("jobs.audits.rows.outbox.announce", _broken)
    with pytest.raises(RuntimeError):
        ledger.succeed(claim, make_report(audit_id))
    monkeypatch.undo()
    assert ledger.get(audit_id).status == "running"
    assert news(book, hook) == []
    ledger.succeed(claim, make_report(audit_id))
    assert news(book, hook) == [("audit.succeeded", audit_id)]


def _broken(*_):
    raise RuntimeError


def test_only_the_owners_webhooks_hear_of_an_audit(ledger, book, hook, spec):
    other = book.create(owner="bob", url=URL, stored_secret="whsec_2")
    ledger.request_cancel(ledger.submit(spec, owner="bob").audit.id)
    assert news(book, hook) == []
    assert len(news(book, other, "bob")) == 1


def test_one_that_is_not_for_every_audit_hears_of_those_that_name_it(ledger, book, make_spec):
    named = book.create(owner="ann", url=URL, stored_secret="whsec_1", every_audit=False)
    ledger.request_cancel(ledger.submit(make_spec(), owner="ann").audit.id)
    wanted = ledger.submit(make_spec(webhook={"url": URL}), owner="ann").audit.id
    ledger.request_cancel(wanted)
    assert news(book, named) == [("audit.cancelled", wanted)]


def test_a_spec_that_names_no_webhook_of_its_owner_is_refused(ledger, book, make_spec):
    book.create(owner="bob", url=URL, stored_secret="whsec_1")
    with pytest.raises(UnknownWebhook):
        ledger.submit(make_spec(webhook={"url": URL}), owner="ann")
    assert ledger.list(owner="ann").audits == ()


def test_a_message_goes_to_one_sender_at_a_time(ledger, url, open_ledger, book, hook):
    book.test(hook.id, owner="ann")
    neighbour = open_ledger(url).webhooks
    (taken,) = book.take(limit=4, lease_s=100)
    assert neighbour.take(limit=4, lease_s=100) == []
    assert (taken.url, taken.stored_secret, taken.tries) == (URL, "whsec_1", 0)
    _pass_time(ledger)
    (again,) = neighbour.take(limit=4, lease_s=100)
    assert again.id == taken.id


def _pass_time(ledger):
    ledger._database.write(
        lambda connection: connection.execute(text("UPDATE deliveries SET due_tick = due_tick - 1000"))
    )


def test_one_at_a_time_for_each_webhook(book, hook):
    other = book.create(owner="ann", url=URL + "/2", stored_secret="whsec_2")
    for webhook in (hook, hook, other, other):
        book.test(webhook.id, owner="ann")
    taken = book.take(limit=4, lease_s=10)
    assert sorted(one.webhook_id for one in taken) == sorted([hook.id, other.id])
    assert [one.webhook_id for one in book.take(limit=4, lease_s=10, skip=[hook.id])] == [other.id]
    assert len(book.take(limit=1, lease_s=10)) == 1


def test_attempts_are_logged_until_it_is_delivered(ledger, book, hook):
    delivery = book.test(hook.id, owner="ann")
    book.take(limit=1, lease_s=10)
    book.settle(delivery.id, REFUSED, delivered=False, retry_in_s=100)
    assert book.take(limit=1, lease_s=10) == []
    _pass_time(ledger)
    (taken,) = book.take(limit=1, lease_s=10)
    assert taken.tries == 1
    book.settle(delivery.id, TAKEN, delivered=True, retry_in_s=100)
    (found,) = book.deliveries(hook.id, owner="ann")
    assert (found.state, found.attempts) == ("delivered", (REFUSED, TAKEN))
    book.settle(delivery.id, REFUSED, delivered=False, retry_in_s=100)
    assert book.deliveries(hook.id, owner="ann") == [found]


def test_one_that_failed_can_be_replayed(book, hook):
    delivery = book.test(hook.id, owner="ann")
    book.settle(delivery.id, REFUSED, delivered=False, retry_in_s=None)
    assert book.deliveries(hook.id, owner="ann")[0].state == "failed"
    assert book.take(limit=1, lease_s=10) == []
    assert book.replay(hook.id, delivery.id, owner="ann").state == "pending"
    (taken,) = book.take(limit=1, lease_s=10)
    assert (taken.id, taken.tries) == (delivery.id, 0)


def test_the_log_of_attempts_is_bounded(book, hook):
    delivery = book.test(hook.id, owner="ann")
    for _ in range(25):
        book.settle(delivery.id, REFUSED, delivered=False, retry_in_s=0)
    assert len(book.deliveries(hook.id, owner="ann")[0].attempts) == 20


def test_a_disabled_one_is_told_nothing(ledger, book, hook, spec):
    delivery = book.test(hook.id, owner="ann")
    book.disable(hook.id)
    assert book.get(hook.id, owner="ann").disabled_at is not None
    assert book.deliveries(hook.id, owner="ann")[0].state == "failed"
    ledger.request_cancel(ledger.submit(spec, owner="ann").audit.id)
    assert len(book.deliveries(hook.id, owner="ann")) == 1
    for call in (lambda: book.test(hook.id, owner="ann"), lambda: book.replay(hook.id, delivery.id, owner="ann")):
        with pytest.raises(WebhookDisabled):
            call()


def test_deliveries_go_with_their_webhook_and_outlive_their_audit(ledger, book, hook, spec):
    audit_id = ledger.submit(spec, owner="ann").audit.id
    ledger.request_cancel(audit_id)
    ledger.delete(audit_id)
    assert news(book, hook) == [("audit.cancelled", audit_id)]
    book.delete(hook.id, owner="ann")
    with ledger._database.reading() as connection:
        assert connection.execute(select(deliveries)).all() == []


def test_an_audit_outlives_the_webhook_that_it_names(ledger, book, hook, make_spec):
    audit_id = ledger.submit(make_spec(webhook={"url": URL}), owner="ann").audit.id
    book.delete(hook.id, owner="ann")
    assert ledger.request_cancel(audit_id).status == "cancelled"
    with ledger._database.reading() as connection:
        assert connection.execute(select(audits.c.webhook_id)).scalar_one() == hook.id


def test_owners_do_not_see_each_others(book, hook):
    delivery = book.test(hook.id, owner="ann")
    for call in (
        lambda: book.get(hook.id, owner="bob"),
        lambda: book.delete(hook.id, owner="bob"),
        lambda: book.test(hook.id, owner="bob"),
        lambda: book.deliveries(hook.id, owner="bob"),
        lambda: book.replay(hook.id, delivery.id, owner="bob"),
    ):
        with pytest.raises(WebhookNotFound):
            call()
    assert book.list(owner="bob") == ()
    with pytest.raises(DeliveryNotFound):
        book.replay(hook.id, "msg_" + "0" * 26, owner="ann")


def test_pages_of_deliveries(book, hook):
    ids = [book.test(hook.id, owner="ann").id for _ in range(5)]
    assert [one.id for one in book.deliveries(hook.id, owner="ann", limit=3)] == sorted(ids)[:1:-1]
    assert [one.id for one in book.deliveries(hook.id, owner="ann", before=sorted(ids)[2], limit=3)] == sorted(ids)[
        1::-1
    ]


def test_addresses_are_an_owners_once_and_bounded(book, hook):
    with pytest.raises(WebhookTaken):
        book.create(owner="ann", url=URL, stored_secret="whsec_2")
    for number in range(webhooks.MAX_WEBHOOKS - 1):
        book.create(owner="ann", url=f"{URL}/{number}", stored_secret="whsec_2")
    with pytest.raises(TooManyWebhooks):
        book.create(owner="ann", url=f"{URL}/more", stored_secret="whsec_2")
    with pytest.raises(ValueError, match="address"):
        book.create(owner="ann", url="x" * 2001, stored_secret="whsec_2")


def test_old_settled_ones_are_forgotten(book, hook):
    settled, _ = book.test(hook.id, owner="ann"), book.test(hook.id, owner="ann")
    book.settle(settled.id, TAKEN, delivered=True, retry_in_s=None)
    assert book.prune(older_than_s=60) == 0
    assert book.prune(older_than_s=-60) == 1
    assert len(book.deliveries(hook.id, owner="ann")) == 1


def test_owners_have_turns(book, hook):
    """A thousand messages of one owner keep nobody else's waiting: they are sent beside them, whoever came first."""
    others = [book.create(owner="ann", url=f"{URL}/{place}", stored_secret="whsec_1") for place in range(6)]
    for webhook in (hook, *others) * 30:
        book.test(webhook.id, owner="ann")
    bobs = book.create(owner="bob", url=URL, stored_secret="whsec_2")
    book.test(bobs.id, owner="bob")
    taken = book.take(limit=16, lease_s=100)
    assert [one.owner for one in taken] == ["ann", "bob", "ann", "ann", "ann"]
    # The owner whose receivers are slow has as many under way as one may, and waits; others do not.
    skip = [one.webhook_id for one in taken]
    book.test(bobs.id, owner="bob")
    again = book.take(limit=16, lease_s=100, skip=skip[:1] + skip[2:], busy={"ann": webhooks.MAX_AT_ONCE})
    assert [one.owner for one in again] == ["bob"]
