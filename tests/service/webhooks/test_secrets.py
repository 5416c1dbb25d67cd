"""Signing secrets in the ledger: what a copy of it gives away, and what becomes of them when keys change."""

import base64
from contextlib import ExitStack

import httpx
import pytest
from standardwebhooks import Webhook

from jobs.webhooks.repository import ENCRYPTED
from service.app import create_app
from service.errors import StartupError
from service.settings import Settings
from service.webhooks.secrets import SecretBox, UnreadableSecret, reseal
from tests.service.conftest import serving
from tests.service.webhooks.test_row_16_webhooks import OPTIONS, errors, register, settled, target  # noqa: F401

ONE, TWO = (base64.urlsafe_b64encode(byte * 32).decode() for byte in (b"1", b"2"))


@pytest.fixture
def hook(dependencies):
    """A webhook whose secret is stored as it is, and its secret."""
    secret = "whsec_bm90aGluZyB0aGF0IGFueWJvZHkgd291bGQgZ3Vlc3M="
    record = dependencies.ledger.webhooks.create(owner="ann", url="https://ci.example/", stored_secret=secret)
    return record.id, secret


def stored(dependencies):
    return dict(dependencies.ledger.webhooks.stored_secrets())


def test_a_copy_of_the_ledger_does_not_hold_the_secret(serve, target, tmp_path):  # noqa: F811
    served = serve(**OPTIONS, webhook_keys=[ONE])
    receiver = target(204)
    webhook = register(served, receiver.url)
    settled(served, webhook, count=0)
    served.succeed(served.file())
    assert [one["state"] for one in settled(served, webhook)] == ["delivered"]
    ((headers, body, _),) = receiver.received
    Webhook(webhook["secret"]).verify(body, {name.lower(): value for name, value in headers.items()})
    files = sorted((tmp_path / "data").glob("ledger.sqlite3*"))
    assert files
    for file in files:
        content = file.read_bytes()
        assert webhook["secret"].encode() not in content
        assert webhook["secret"].removeprefix("whsec_").encode() not in content


def test_secrets_of_before_are_encrypted_by_the_next_start(serve, tmp_path):
    first = serve(**OPTIONS)
    webhook = register(first, "https://ci.example/hook")
    assert stored(first.dependencies) == {webhook["id"]: webhook["secret"]}
    settings = first.dependencies.settings.model_copy(update={"webhook_keys": Settings.model_validate(
        {"data_dir": tmp_path, "models_root": tmp_path, "webhook_keys": ONE}).webhook_keys})  # fmt: skip
    with serving(create_app(settings)) as url:
        assert httpx.get(f"{url}/webhooks").json()["webhooks"][0]["id"] == webhook["id"]
    (now,) = stored(first.dependencies).values()
    assert SecretBox([ONE]).open(now) == webhook["secret"]
    assert now != webhook["secret"]


def test_a_new_key_takes_the_place_of_an_old_one(dependencies, hook):
    webhook_id, secret = hook
    book = dependencies.ledger.webhooks
    assert book.unencrypted() == 1
    assert reseal(book, SecretBox([ONE])) == 1
    assert book.unencrypted() == 0
    assert reseal(book, SecretBox([TWO, ONE])) == 1
    assert reseal(book, SecretBox([TWO, ONE])) == 0, "what is under the first key stays"
    assert SecretBox([TWO]).open(stored(dependencies)[webhook_id]) == secret
    with pytest.raises(UnreadableSecret):
        SecretBox([ONE]).open(stored(dependencies)[webhook_id])


@pytest.mark.parametrize("keys", [[], [TWO]])
def test_without_its_key_a_secret_stays_as_it_is(dependencies, hook, keys):
    webhook_id, secret = hook
    book = dependencies.ledger.webhooks
    reseal(book, SecretBox([ONE]))
    before = stored(dependencies)
    assert reseal(book, SecretBox(keys)) == 0
    assert stored(dependencies) == before
    with pytest.raises(UnreadableSecret):
        SecretBox(keys).open(before[webhook_id])
    assert SecretBox([TWO, ONE]).open(before[webhook_id]) == secret


def test_a_message_waits_for_the_key_and_says_so(serve, target, tmp_path):  # noqa: F811
    with ExitStack() as stack:
        options = OPTIONS | {"webhook_retry_s": [0.1] * 200}
        served = serve(**options)
        receiver = target(204)
        webhook = register(served, receiver.url)
        book = served.dependencies.ledger.webhooks
        reseal(book, SecretBox([ONE]))
        book.test(webhook["id"], owner="local")
        waiting = served.http.get(f"/webhooks/{webhook['id']}/deliveries")
        while not (waiting.json()["deliveries"][0]["attempts"]):
            waiting = served.http.get(f"/webhooks/{webhook['id']}/deliveries")
        assert set(errors(waiting.json()["deliveries"][0])) == {"secret"}
        assert not receiver.received
        settings = served.dependencies.settings.model_copy(update={"webhook_keys": Settings.model_validate(
            {"data_dir": tmp_path, "models_root": tmp_path, "webhook_keys": ONE}).webhook_keys})  # fmt: skip
        stack.enter_context(serving(create_app(settings)))
        assert settled(served, webhook)[0]["state"] == "delivered"


def test_what_is_stored_says_nothing_of_the_secret():
    box, secret = SecretBox([ONE]), "whsec_" + "A" * 44
    sealed = [box.seal(secret) for _ in range(3)]
    assert len(set(sealed)) == 3
    assert all(one.startswith(ENCRYPTED) and secret not in one and len(one) <= 512 for one in sealed)
    assert {box.open(one) for one in sealed} == {secret}


def test_a_secret_that_was_changed_in_the_ledger_is_not_used():
    box = SecretBox([ONE])
    sealed = box.seal("whsec_AAAA")
    middle = len(sealed) // 2
    changed = sealed[:middle] + ("A" if sealed[middle] != "A" else "B") + sealed[middle + 1 :]
    with pytest.raises(UnreadableSecret):
        box.open(changed)


@pytest.mark.parametrize("keys", ["x", f"{ONE},x", "A" * 44, f"{ONE} {TWO}", ONE + ONE])
def test_what_is_no_key_keeps_the_service_from_starting(tmp_path, keys):
    with pytest.raises(StartupError, match="BACKDOOR_AUDIT_WEBHOOK_KEYS") as caught:
        Settings.load(data_dir=tmp_path, models_root=tmp_path, webhook_keys=keys)
    assert ONE not in str(caught.value)


def test_keys_are_read_from_text_and_shown_nowhere(tmp_path):
    settings = Settings.load(data_dir=tmp_path, models_root=tmp_path, webhook_keys=f"{ONE}, {TWO}")
    assert [key.get_secret_value() for key in settings.webhook_keys] == [ONE, TWO]
    assert ONE not in repr(settings)
    assert ONE not in settings.model_dump_json()
