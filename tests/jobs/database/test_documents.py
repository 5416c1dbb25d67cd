"""Specs in memory, up to a bound."""

import pytest

from jobs.database.documents import SpecCache


@pytest.fixture
def rows(ledger, make_spec):
    from jobs.audits import rows as audits

    ids = [ledger.submit(make_spec(seed=seed), owner="ann").audit.id for seed in (0, 1, 2, 0)]
    with ledger._database.reading() as connection:
        return [audits.find(connection, audit_id, owner=None) for audit_id in ids]


def test_what_was_read_is_kept_by_digest(ledger, rows):
    spec_cache = SpecCache()
    with ledger._database.reading() as connection:
        first = spec_cache.get(connection, rows)
    again = spec_cache.get(None, rows)
    assert [first[row["id"]].seed for row in rows] == [0, 1, 2, 0]
    assert all(again[row["id"]] is first[row["id"]] for row in rows)
    assert first[rows[0]["id"]] is first[rows[3]["id"]]


def test_the_least_recently_used_leave_first(ledger, rows):
    with ledger._database.reading() as connection:
        one = len(next(iter(SpecCache().get(connection, rows[:1]).values())).model_dump_json())
        spec_cache = SpecCache(max_chars=2 * one + 10)
        spec_cache.get(connection, rows[:2])
        spec_cache.get(connection, rows[:1])
        spec_cache.get(connection, rows[2:3])
        assert list(spec_cache._parsed) == [rows[0]["spec_digest"], rows[2]["spec_digest"]]
        assert spec_cache._chars <= 2 * one + 10


def test_what_is_larger_than_the_bound_is_read_each_time(ledger, rows):
    spec_cache = SpecCache(max_chars=10)
    with ledger._database.reading() as connection:
        assert spec_cache.get(connection, rows[:1])[rows[0]["id"]].seed == 0
    assert not spec_cache._parsed
