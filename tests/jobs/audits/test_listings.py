"""Pages, counts, and the indexes behind them."""

import base64
from datetime import timedelta

import pytest
from sqlalchemy import event, text

from backdoor_audit.contract.lifecycle import Failure
from backdoor_audit.contract.spec.audit_spec import DecoyStrings
from jobs.errors import AuditNotTerminal, InvalidPageToken, ReportNotReady


@pytest.fixture
def ids(ledger, spec):
    """Seven audits, newest first; those at odd places are Bob's."""
    made = [ledger.submit(spec, owner="bob" if place % 2 else "ann").audit.id for place in range(7)]
    return sorted(made, reverse=True)


def walk(ledger, **filters):
    seen, token, pages = [], None, 0
    while True:
        page = ledger.list(page_token=token, **filters)
        seen += [audit.id for audit in page.audits]
        pages += 1
        token = page.next_page_token
        if token is None:
            return seen, pages


@pytest.mark.parametrize(("page_size", "pages"), [(1, 7), (3, 3), (7, 1), (50, 1), (0, 7), (10**9, 1)])
def test_pages_cover_all_newest_first(ledger, ids, page_size, pages):
    assert walk(ledger, page_size=page_size) == (ids, pages)


def test_what_comes_or_goes_in_between_moves_nothing(ledger, spec, ids):
    first = ledger.list(page_size=3)
    ledger.submit(spec, owner="ann")
    ledger.request_cancel(ids[2])
    ledger.delete(ids[2])
    rest = ledger.list(page_size=50, page_token=first.next_page_token)
    assert [audit.id for audit in first.audits] == ids[:3]
    assert [audit.id for audit in rest.audits] == ids[3:]


def test_filters(ledger, ids, make_report):
    for audit_id in ids[:2]:
        claim = ledger.claim(audit_id, worker="w1")
        ledger.succeed(claim, make_report(audit_id, "no_evidence"))
    bobs = [audit_id for audit_id in ids if ledger.get(audit_id).owner == "bob"]
    assert walk(ledger, owner="bob", page_size=2)[0] == bobs
    assert walk(ledger, status="succeeded", page_size=1)[0] == ids[:2]
    assert walk(ledger, verdict="no_evidence")[0] == ids[:2]
    assert walk(ledger, verdict="flagged")[0] == []
    assert walk(ledger, owner="bob", status="queued")[0] == [one for one in bobs if one not in ids[:2]]


def test_models_labels_moments_and_beginnings_of_ids_are_filters(ledger, spec):
    def file(**changes):
        return ledger.submit(spec.model_copy(update=changes), owner="ann").audit.id

    one = file(fine_tuned="local:one", labels={"team": "blue", "build": "1"})
    two = file(fine_tuned="local:two", labels={"team": "blue"})
    three = file(base_model="local:other", labels={"team": "red"})

    def found(**filters):
        return set(walk(ledger, page_size=1, **filters)[0])

    assert found(fine_tuned="local:one") == {one}
    assert found(base_model="local:other") == {three}
    assert found(labels=(("team", "blue"),)) == {one, two}
    assert found(labels=(("team", None),)) == {one, two, three}
    assert found(labels=(("team", "blue"), ("build", None))) == {one}
    assert found(labels=(("team", "1"),)) == found(labels=(("tea", None),)) == set()
    assert found(id_prefix=two[:20], fine_tuned="local:two") == {two}
    assert found(id_prefix=two) == {two}
    assert found(id_prefix=two[:-1] + "~") == set()
    moment = ledger.get(two).created_at
    assert two in found(filed_since=moment)
    assert two not in found(filed_before=moment)
    assert found(filed_since=moment + timedelta(days=1)) == set()
    token = ledger.list(page_size=1, labels=(("team", "blue"),)).next_page_token
    with pytest.raises(InvalidPageToken):
        ledger.list(page_size=1, labels=(("team", "red"),), page_token=token)


def test_the_first_in_the_queue_is_the_one_that_is_taken_next(ledger, spec, ids):
    assert ledger.submit(spec, owner="cy", idempotency_key="k").audit.queue_position == 3, "each owner has a turn"
    again = ledger.submit(spec, owner="cy", idempotency_key="k").audit
    assert (again.queue_position, ledger.get(again.id).queue_position) == (3, 3)
    for left in range(8, 0, -1):
        places = {audit.id: audit.queue_position for audit in ledger.list(status="queued").audits}
        assert sorted(places.values()) == list(range(1, left + 1))
        taken = ledger.take_turn(ids[0], worker="w")
        assert places[taken.audit_id] == 1
        assert ledger.get(taken.audit_id).queue_position is None


@pytest.mark.parametrize(
    "token", ["", "x", "!!", "\0", "ü", "a" * 10_000, base64.urlsafe_b64encode(b"123456audit_; DROP").decode()]
)
def test_bad_tokens(ledger, ids, token):
    with pytest.raises(InvalidPageToken):
        ledger.list(page_token=token)


def test_a_token_belongs_to_its_filters(ledger, ids):
    token = ledger.list(page_size=2).next_page_token
    with pytest.raises(InvalidPageToken):
        ledger.list(page_size=2, page_token=token, owner="ann")
    with pytest.raises(InvalidPageToken):
        ledger.list(page_size=2, page_token=token[:-4])


def test_counts(ledger, ids, make_report):
    empty = ledger.counts()
    assert empty.queued == 7
    assert 0 <= empty.oldest_queued_s < 60
    claim = ledger.claim(ids[0], worker="w1")
    ledger.succeed(claim, make_report(ids[0]))
    ledger.claim(ids[1], worker="w1")
    ledger.request_cancel(ids[1])
    ledger.request_cancel(ids[2])
    ledger.fail(ledger.claim(ids[3], worker="w1"), Failure(code="internal", message="x"))
    assert ledger.counts().by_status == {
        "queued": 3,
        "running": 0,
        "cancelling": 1,
        "succeeded": 1,
        "failed": 1,
        "cancelled": 1,
    }


def test_an_empty_ledger_counts_nothing(ledger):
    counts = ledger.counts()
    assert (counts.queued, counts.oldest_queued_s, counts.reaped_total) == (0, 0.0, 0)
    assert ledger.list().audits == ()


def test_reports_and_deletion_need_the_right_state(ledger, ids, make_report):
    with pytest.raises(ReportNotReady) as not_ready:
        ledger.report(ids[0])
    assert not_ready.value.status == "queued"
    claim = ledger.claim(ids[0], worker="w1")
    with pytest.raises(AuditNotTerminal) as not_terminal:
        ledger.delete(ids[0])
    assert not_terminal.value.status == "running"
    ledger.succeed(claim, make_report(ids[0]))
    ledger.delete(ids[0])
    assert ids[0] not in walk(ledger)[0]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_no_query_walks_a_table(ledger, ids, spec):
    seen = set()

    def note(_connection, _cursor, statement, parameters, *_):
        if statement.lstrip().upper().startswith(("SELECT", "UPDATE", "DELETE")):
            seen.add((statement, tuple(parameters)))

    event.listen(ledger._database.engine, "before_cursor_execute", note)
    ledger.list()
    ledger.list(owner="ann", page_token=ledger.list(owner="ann", page_size=1).next_page_token)
    ledger.list(status="queued")
    ledger.list(verdict="flagged")
    ledger.list(fine_tuned="local:tuned")
    ledger.list(base_model="local:base")
    ledger.list(id_prefix=ids[0][:12])
    ledger.list(owner="ann", labels=(("team", "blue"),), filed_since=ledger.now())
    claim = ledger.claim(ids[0], worker="w1")
    ledger.heartbeat(claim)
    ledger.progress(claim, "train", 0.5)
    ledger.events(ids[0])
    ledger.reap()
    ledger.counts()
    ledger.mark_enqueued(ids[1])
    ledger.submit(spec, owner="ann", idempotency_key="k")
    ledger.request_cancel(ids[1])
    ledger.delete(ids[1])
    event.remove(ledger._database.engine, "before_cursor_execute", note)
    assert len(seen) > 12
    with ledger._database.reading() as connection:
        # SQLite chooses by statistics where it has them; without, by the shape of the index alone.
        for statement, parameters in seen:
            plan = [row.detail for row in connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, parameters)]
            walks = [step for step in plan if step.startswith("SCAN") and "INDEX" not in step]
            assert not [step for step in walks if "alembic_version" not in step and "sqlite_" not in step], statement
            assert not [step for step in plan if "TEMP B-TREE" in step], statement
        assert connection.execute(text("SELECT 1")).scalar_one() == 1


def test_what_ended_without_a_report_is_found(ledger, spec, make_report):
    ids = [ledger.submit(spec, owner="ann").audit.id for _ in range(4)]
    ledger.request_cancel(ids[0])
    ledger.fail(ledger.claim(ids[1], worker="w"), Failure(code="internal", message="x"))
    ledger.succeed(ledger.claim(ids[2], worker="w"), make_report(ids[2]))
    unknown = ["audit_" + "0" * 26] * 1_200
    assert sorted(ledger.without_report(iter([*unknown, *ids]))) == sorted(ids[:2])
    assert ledger.without_report([]) == []
    assert ledger.still_open(iter([*unknown, *ids])) == ids[3:]


def test_transitions_and_stage_seconds_are_counted_and_outlive_the_audit(ledger, ids, make_report):
    report = make_report(ids[0])
    taken = report.provenance.model_copy(update={"timings_s": {"extract": 12.4, "train": 3.6, "unheard of": 9.0}})
    report = report.model_copy(update={"provenance": taken})
    ledger.succeed(ledger.claim(ids[0], worker="w1"), report)
    ledger.request_cancel(ids[1])
    ledger.delete(ids[0])
    counts = ledger.counts()
    assert counts.transitions == {"queued": 7, "running": 1, "succeeded": 1, "cancelled": 1}
    assert counts.stage_seconds == {"extract": 12, "train": 4}


def test_lost_leases_count_as_transitions_too(ledger, ids, make_due):
    for audit_id in ids[:2]:
        ledger.claim(audit_id, worker="w1")
        make_due(ledger, audit_id)
    assert set(ledger.reap()) == set(ids[:2])
    assert ledger.counts().transitions == {"queued": 9, "running": 2}


def test_a_page_holds_no_more_text_than_it_may(ledger, spec):
    """Whatever an owner puts into specs: what a listing reads and answers is bounded."""
    strings = [tuple(f"{start}{place}" + "x" * 1_990 for place in range(900)) for start in "ab"]
    long = [spec.model_copy(update={"decoys": DecoyStrings(strings=each)}) for each in strings]
    made = [ledger.submit(one, owner="ann").audit.id for one in (*long, spec, *long)]
    assert walk(ledger, page_size=200) == (sorted(made, reverse=True), 2)
    assert len(ledger.list(page_size=200).audits) == 3  # two long ones, and the short one between them


def test_one_spec_that_is_longer_than_a_page_is_a_page(ledger, spec, monkeypatch):
    monkeypatch.setattr("jobs.audits.listings._MAX_PAGE_CHARS", 10)
    made = [ledger.submit(spec, owner="ann").audit.id for _ in range(3)]
    assert walk(ledger, page_size=2) == (sorted(made, reverse=True), 3)
