"""API keys in the ledger, on both databases."""

import hmac
import re
from datetime import timedelta

import pytest
from sqlalchemy import text, update

from backdoor_audit.contract import ids
from jobs import keys
from jobs.database.tables import api_keys
from jobs.errors import KeyNotFound


@pytest.fixture
def ring(ledger):
    return ledger.keys


def test_a_key_is_let_in_until_it_is_revoked(ring):
    assert not ring.any_live()
    record, token = ring.create(owner="ann", name="pipeline", scopes=["audits:write", "audits:read"])
    assert re.fullmatch(ids.KEY_ID, record.id)
    assert record.scopes == {"audits:read", "audits:write"}
    assert record.expires_at is record.revoked_at is None
    assert ring.check(token) == record
    assert ring.any_live()
    ring.revoke(record.id)
    assert ring.check(token) is None
    assert not ring.any_live()
    (listed,) = ring.list()
    assert listed.revoked_at is not None
    ring.revoke(record.id)
    assert ring.list() == (listed,)


def test_revocation_holds_for_a_neighbour_at_once(url, open_ledger):
    here, there = open_ledger(url).keys, open_ledger(url).keys
    record, token = here.create(owner="ann", name="one", scopes=["admin"])
    assert there.check(token) == record
    here.revoke(record.id)
    assert there.check(token) is None


def test_a_key_ends_by_itself(ring, ledger):
    record, token = ring.create(owner="ann", name="short", scopes=["admin"], lifetime_s=3600)
    assert record.expires_at - record.created_at == timedelta(hours=1)
    assert ring.check(token) == record
    passed = update(api_keys).values(expires_at=record.created_at - timedelta(seconds=1))
    ledger._database.write(lambda connection: connection.execute(passed))
    assert ring.check(token) is None
    assert not ring.any_live()


def test_the_secret_is_nowhere_in_the_database(ring, ledger):
    _, token = ring.create(owner="ann", name="one", scopes=["admin"])
    secret = token.rsplit("_", 1)[1]
    assert len(secret) == 52
    with ledger._database.reading() as connection:
        rows = connection.execute(text("SELECT * FROM api_keys")).all()
    assert len(rows) == 1
    assert secret not in str(rows)


def test_what_is_no_key_is_not_let_in(ring):
    _, token = ring.create(owner="ann", name="one", scopes=["admin"])
    _, other = ring.create(owner="bob", name="two", scopes=["admin"])
    crossed = token.rsplit("_", 1)[0] + "_" + other.rsplit("_", 1)[1]
    last = "0" if token[-1] != "0" else "1"
    wrong = ("", "ba_", token[:-1], token[:-1] + last, token + "0", token.upper(), f" {token}", f"{token}\n", crossed)
    for text_ in (*wrong, "ba_" + "0" * 26 + "_" + "0" * 52, "x" * 100_000, "\x00", "\ud800"):
        assert ring.check(text_) is None, text_[:100]


def test_secrets_are_compared_in_constant_time_for_unknown_ids_as_well(ring, monkeypatch):
    compared = []
    right = hmac.compare_digest

    def compare(one, other):
        compared.append((one, other))
        return right(one, other)

    monkeypatch.setattr(keys.hmac, "compare_digest", compare)
    _, token = ring.create(owner="ann", name="one", scopes=["admin"])
    ring.check(token)
    ring.check("ba_" + "0" * 26 + "_" + "0" * 52)
    assert [len(one) == len(other) == 64 for one, other in compared] == [True, True]


def test_keys_differ(ring):
    tokens = {ring.create(owner="ann", name="one", scopes=["admin"])[1] for _ in range(20)}
    assert len({token.rsplit("_", 1)[1] for token in tokens}) == 20


@pytest.mark.parametrize(
    "wrong",
    [
        {"scopes": []},
        {"scopes": ["root"]},
        {"owner": ""},
        {"name": "x" * 256},
        {"name": "\x00"},
        {"lifetime_s": 0},
    ],
    ids=str,
)
def test_a_key_that_makes_no_sense_is_refused(ring, wrong):
    with pytest.raises(ValueError, match="must"):
        ring.create(**{"owner": "ann", "name": "one", "scopes": ["admin"]} | wrong)
    assert ring.list() == ()


def test_a_key_that_is_not_there_cannot_be_revoked(ring):
    with pytest.raises(KeyNotFound):
        ring.revoke("key_" + "0" * 26)


def test_a_scope_of_newer_code_is_left_out(ring, ledger):
    _, token = ring.create(owner="ann", name="one", scopes=["audits:read"])
    ledger._database.write(
        lambda connection: connection.execute(update(api_keys).values(scopes="audits:read audits:dream"))
    )
    assert ring.check(token).scopes == {"audits:read"}
