"""How many requests a key may make: the bucket by a clock of our own, and over HTTP."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.http import rates
from service.http.rates import RateLimit
from service.pages.session import COOKIE


class Clock:
    now = 1_000.0

    def __call__(self):
        return self.now


def test_a_minutes_allowance_at_once_and_then_one_by_one():
    clock = Clock()
    limit = RateLimit(30, clock)
    assert [limit.wait_s("a") for _ in range(31)] == [0] * 30 + [2]
    assert limit.wait_s("b") == 0
    clock.now += 1.9
    assert limit.wait_s("a") == 1
    clock.now += 0.1
    assert [limit.wait_s("a"), limit.wait_s("a")] == [0, 2]
    clock.now += 3_600
    assert [limit.wait_s("a") for _ in range(31)] == [0] * 30 + [2]


def test_none_is_refused_where_there_is_no_limit():
    limit = RateLimit(0, Clock())
    assert {limit.wait_s("a") for _ in range(10_000)} == {0}


@given(per_minute=st.integers(1, 600), steps=st.lists(st.floats(0, 5), min_size=1, max_size=200))
def test_in_no_stretch_of_time_more_go_through_than_the_allowance_and_the_refill(per_minute, steps):
    clock = Clock()
    limit, passed = RateLimit(per_minute, clock), 0
    for step in steps:
        clock.now += step
        passed += limit.wait_s("a") == 0
        assert passed <= per_minute + (clock.now - 1_000) * per_minute / 60 + 1e-6


def test_a_wait_that_was_told_is_long_enough():
    for per_minute in (1, 7, 59, 60, 61, 3_000):
        clock = Clock()
        limit = RateLimit(per_minute, clock)
        while not (wait := limit.wait_s("a")):
            pass
        clock.now += wait
        assert limit.wait_s("a") == 0


def test_keys_that_have_rested_are_forgotten(monkeypatch):
    monkeypatch.setattr(rates, "_MOST_KEPT", 3)
    clock = Clock()
    limit = RateLimit(60, clock)
    for name in "abc":
        limit.wait_s(name)
    clock.now += 60
    limit.wait_s("d")
    assert set(limit._left) == {"d"}


@pytest.fixture
def two_keys(serve):
    """A service where a key may make three requests a minute, and the texts of two keys."""
    served = serve(require_keys=True, requests_per_minute=3)
    create = served.dependencies.ledger.keys.create
    return served, *(create(owner="ann", name=name, scopes=["admin"])[1] for name in ("one", "two"))


def test_one_request_too_many_is_429_for_this_key_alone(two_keys):
    served, one, two = two_keys
    answers = [served.http.get("/audits", headers={"Authorization": f"Bearer {one}"}) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].json()["code"] == "too_many_requests"
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 20
    assert served.http.get("/audits", headers={"Authorization": f"Bearer {two}"}).status_code == 200
    assert served.http.get("/readyz").status_code == 200
    page = served.http.get("/", headers={"Cookie": f"{COOKIE}={one}"})
    assert page.status_code == 429
    assert page.headers["Content-Type"].startswith("text/html")
    assert int(page.headers["Retry-After"]) >= 1


def test_who_needs_no_key_is_not_counted(serve):
    served = serve(requests_per_minute=1)
    assert [served.http.get("/audits").status_code for _ in range(3)] == [200, 200, 200]
