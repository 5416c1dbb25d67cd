"""Whose audit a worker takes next: an owner's many do not starve another's."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import update

from backdoor_audit.contract.lifecycle import Failure
from jobs.database.tables import specs
from jobs.errors import SpecTooNew


def take(ledger, audit_id, worker="w1"):
    return ledger.take_turn(audit_id, worker=worker)


def end(ledger, claim):
    ledger.fail(claim, Failure(code="internal", message="x"))


def test_owners_have_turns_whatever_is_queued(ledger, spec):
    many = [ledger.submit(spec, owner="ann").audit.id for _ in range(6)]
    others = [ledger.submit(spec, owner=owner).audit.id for owner in ("bob", "bob", "cy")]
    taken = []
    for message in (*many, *others):  # the broker hands them out as they came
        claim = take(ledger, message)
        taken.append(claim.owner)
        end(ledger, claim)
    assert taken[:5] == ["ann", "bob", "cy", "ann", "bob"]
    assert taken[5:] == ["ann"] * 4
    assert take(ledger, many[0]) is None


def test_an_owner_takes_its_own_audits_as_they_came(ledger, spec):
    made = [ledger.submit(spec, owner="ann").audit.id for _ in range(3)]
    assert [take(ledger, message).audit_id for message in reversed(made)] == made


def test_the_owner_with_the_fewest_running_audits_comes_first(ledger, spec):
    for owner in ("ann", "ann", "ann", "bob", "bob"):
        ledger.submit(spec, owner=owner)
    first = [take(ledger, "audit_" + "0" * 26) for _ in range(4)]
    assert [claim.owner for claim in first] == ["ann", "bob", "ann", "bob"]
    end(ledger, first[1])
    end(ledger, first[3])
    ledger.submit(spec, owner="bob")
    assert take(ledger, first[0].audit_id).owner == "bob"


def test_workers_at_one_moment_take_different_audits(ledger, spec):
    made = [ledger.submit(spec, owner=owner).audit.id for owner in "abcabc"]
    with ThreadPoolExecutor(6) as pool:
        claims = list(pool.map(lambda audit_id: take(ledger, audit_id, worker=audit_id), made))
    taken = [claim.audit_id for claim in claims if claim is not None]
    assert len(taken) == len(set(taken)) == 6
    assert set(Counter(claim.owner for claim in claims).values()) == {2}


def test_an_audit_of_newer_code_is_passed_by(ledger, spec):
    newer, readable = (ledger.submit(spec, owner="ann").audit.id for _ in range(2))
    change = update(specs).where(specs.c.audit_id == newer).values(version="99.0")
    ledger._write(lambda connection: connection.execute(change))
    assert take(ledger, newer).audit_id == readable
    with pytest.raises(SpecTooNew):
        take(ledger, newer)
    assert ledger.get(newer).status == "queued"
