"""Benign libraries in the ledger, on both databases."""

import threading

import pytest
from sqlalchemy import inspect

from backdoor_audit.contract.benign_library import ComparabilityKey, ModelScore
from backdoor_audit.contract.report.audit_report import CandidateRow
from jobs import libraries as rules
from jobs.database import page_tokens as keyset
from jobs.errors import (
    AuditNotFound,
    EntryExists,
    EntryNotFound,
    EntryRefused,
    InvalidPageToken,
    LibraryFull,
    LibraryInUse,
    LibraryNameTaken,
    LibraryNotFound,
)

KEY = ComparabilityKey(
    base_digest="sha256:0", carriers_digest="sha256:2", template="{trigger}\n{prompt}", rendering="raw", layers=(0,),
    architectures=("diff_sae",), decoy_carriers_a=16, decoy_carriers_b=16, continuation_tokens=16, dtype="float32",
    trigger_kind="year", method_version="1",
)  # fmt: skip


@pytest.fixture
def finished(ledger, make_spec, make_report):
    """End an audit with a scored report; returns its id."""

    def finish(
        tuned="sha256:1", *, owner="ann", effect=0.5, verdict="no_evidence", score=True, base="sha256:0", pairs=1
    ):
        audit_id = ledger.submit(make_spec(), owner=owner).audit.id
        report = make_report(audit_id, verdict)
        update = {}
        if score:
            key = KEY.model_copy(update={"base_digest": base})
            update = dict(ModelScore.of(effect, 1e-6, key))
        calibrated = report.gates.calibrated.model_copy(update=update)
        report = report.model_copy(
            update={
                "gates": report.gates.model_copy(update={"calibrated": calibrated}),
                "provenance": report.provenance.model_copy(update={"tuned_digest": tuned}),
            }
        )
        if pairs > 1:
            row = CandidateRow(
                triggered="a", clean="b", verdict=verdict, place=1, reported=True, layer=0, effect_nats=effect,
                smallest_effect_nats=0.05, p_decoy_all=None, p_holm=None, p_conformal_holm=None, screening_only=False,
                gates=report.gates,
            )  # fmt: skip
            report = report.model_copy(update={"candidates": (row,) * pairs})
        ledger.succeed(ledger.claim(audit_id, worker="w1"), report)
        return audit_id

    return finish


@pytest.fixture
def library(ledger):
    return ledger.libraries.create("benign", owner="ann")


def test_a_library_is_found_by_id_and_by_name(ledger, library):
    assert (library.name, library.owner, library.entries) == ("benign", "ann", 0)
    assert library.id.startswith("library_")
    assert ledger.libraries.get(library.id, owner="ann") == library
    assert ledger.libraries.get("benign", owner="ann") == library
    for reference in ("Benign", "nothing", "library_" + "0" * 26, "", "\0"):
        with pytest.raises(LibraryNotFound):
            ledger.libraries.get(reference.replace("\0", "x"), owner="ann")


def test_names_are_one_owners_own(ledger, library):
    with pytest.raises(LibraryNameTaken):
        ledger.libraries.create("benign", owner="ann")
    other = ledger.libraries.create("benign", owner="bob")
    assert ledger.libraries.get("benign", owner="bob") == other
    with pytest.raises(LibraryNotFound):
        ledger.libraries.get(library.id, owner="bob")
    with pytest.raises(LibraryNotFound):
        ledger.libraries.delete(library.id, owner="bob")
    with pytest.raises(ValueError, match="look like an id"):
        ledger.libraries.create("library_" + "0" * 26, owner="ann")


def test_pages_of_libraries(ledger):
    made = [ledger.libraries.create(f"l{n}", owner="ann").id for n in range(5)]
    ledger.libraries.create("other", owner="bob")
    first = ledger.libraries.list(owner="ann", page_size=2)
    rest = ledger.libraries.list(owner="ann", page_size=200, page_token=first.next_page_token)
    assert [one.id for one in (*first.libraries, *rest.libraries)] == sorted(made, reverse=True)
    assert rest.next_page_token is None
    for token, owner in ((first.next_page_token, "bob"), ("x", "ann"), (first.next_page_token[:-4], "ann")):
        with pytest.raises(InvalidPageToken):
            ledger.libraries.list(owner=owner, page_token=token)


def test_an_entry_is_the_score_of_an_audits_report(ledger, library, finished):
    audit_id = finished(effect=0.25)
    stored = ledger.libraries.add("benign", owner="ann", audit_id=audit_id, recipe="clean sft")
    assert stored.id.startswith("entry_")
    assert (stored.library_id, stored.audit_id, stored.fine_tuned) == (library.id, audit_id, "local:tuned")
    assert (stored.entry.effect_nats, stored.entry.recipe) == (0.25, "clean sft")
    assert stored.entry.tuned_digest == "sha256:1"
    assert stored.entry.key == KEY
    assert ledger.libraries.entries(library.id, owner="ann").entries == (stored,)
    assert ledger.libraries.get("benign", owner="ann").entries == 1
    # The score outlives the audit that it came from.
    ledger.delete(audit_id)
    [left] = ledger.libraries.entries(library.id, owner="ann").entries
    assert (left.audit_id, left.entry) == (None, stored.entry)


def test_what_is_no_score_of_a_benign_model_is_refused(ledger, library, finished, spec):
    def add(audit_id, owner="ann"):
        return ledger.libraries.add("benign", owner=owner, audit_id=audit_id, recipe=None)

    with pytest.raises(EntryRefused, match="has not succeeded"):
        add(ledger.submit(spec, owner="ann").audit.id)
    with pytest.raises(EntryRefused, match="no score"):
        add(finished(score=False))
    with pytest.raises(EntryRefused, match="invalid"):
        add(finished(verdict="invalid"))
    with pytest.raises(EntryRefused, match="its own base"):
        add(finished("sha256:0"))
    with pytest.raises(EntryRefused, match="several candidates"):
        add(finished(pairs=2))
    with pytest.raises(EntryRefused, match="which models"):
        add(finished(base=""))
    with pytest.raises(AuditNotFound):
        add(finished(owner="bob"))
    with pytest.raises(AuditNotFound):
        add("audit_" + "0" * 26)
    with pytest.raises(LibraryNotFound):
        add(finished(owner="bob"), owner="bob")
    assert ledger.libraries.get("benign", owner="ann").entries == 0


def test_one_score_a_model(ledger, library, finished):
    first, again = finished("sha256:7", effect=0.1), finished("sha256:7", effect=0.2)
    ledger.libraries.add("benign", owner="ann", audit_id=first, recipe=None)
    for audit_id in (first, again):
        with pytest.raises(EntryExists):
            ledger.libraries.add("benign", owner="ann", audit_id=audit_id, recipe="other")
    ledger.libraries.create("second", owner="ann")
    ledger.libraries.add("second", owner="ann", audit_id=again, recipe=None)


def test_two_at_once_add_a_model_once(ledger, library, finished):
    audits = [finished("sha256:7"), finished("sha256:7")]
    outcomes = []

    def add(audit_id):
        try:
            outcomes.append(ledger.libraries.add("benign", owner="ann", audit_id=audit_id, recipe=None))
        except EntryExists as error:
            outcomes.append(error)

    threads = [threading.Thread(target=add, args=(audit_id,)) for audit_id in audits]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(one, EntryExists) for one in outcomes) == 1
    assert ledger.libraries.get("benign", owner="ann").entries == 1


def test_pages_of_entries_and_removing_one(ledger, library, finished):
    made = [
        ledger.libraries.add("benign", owner="ann", audit_id=finished(f"sha256:{n}x"), recipe=None).id for n in range(5)
    ]
    first = ledger.libraries.entries("benign", owner="ann", page_size=2)
    ledger.libraries.remove("benign", made[3], owner="ann")
    rest = ledger.libraries.entries("benign", owner="ann", page_token=first.next_page_token)
    assert [one.id for one in (*first.entries, *rest.entries)] == sorted(made, reverse=True)
    with pytest.raises(EntryNotFound):
        ledger.libraries.remove("benign", made[3], owner="ann")
    ledger.libraries.create("other", owner="ann")
    with pytest.raises(EntryNotFound):
        ledger.libraries.remove("other", made[0], owner="ann")
    with pytest.raises(InvalidPageToken):
        ledger.libraries.entries("other", owner="ann", page_token=first.next_page_token)
    assert ledger.libraries.get("benign", owner="ann").entries == 4


def test_an_audit_is_claimed_with_the_scores_of_its_library(ledger, library, finished, make_spec):
    added = [
        ledger.libraries.add("benign", owner="ann", audit_id=finished(f"sha256:{n}x"), recipe=None) for n in range(3)
    ]
    by_id, by_name = (
        ledger.submit(make_spec(library=reference), owner="ann").audit.id for reference in (library.id, "benign")
    )
    ledger.libraries.remove("benign", added[0].id, owner="ann")
    for audit_id in (by_id, by_name):
        assert ledger.claim(audit_id, worker="w1").library == tuple(one.entry for one in added[1:])
    assert ledger.claim(ledger.submit(make_spec(), owner="ann").audit.id, worker="w1").library == ()


def test_an_unknown_library_is_refused_before_anything_is_filed(ledger, library, make_spec):
    for reference, owner in (("nothing", "ann"), (library.id, "bob"), ("benign", "bob")):
        with pytest.raises(LibraryNotFound):
            ledger.submit(make_spec(library=reference), owner=owner, idempotency_key="k")
    assert ledger.list().audits == ()
    # The key was not used up.
    made = ledger.submit(make_spec(library="benign"), owner="ann", idempotency_key="k")
    assert made.created


def test_a_library_stays_while_an_audit_needs_it(ledger, library, make_spec, make_report):
    audit_id = ledger.submit(make_spec(library="benign"), owner="ann", idempotency_key="k").audit.id
    with pytest.raises(LibraryInUse):
        ledger.libraries.delete("benign", owner="ann")
    claim = ledger.claim(audit_id, worker="w1")
    with pytest.raises(LibraryInUse):
        ledger.libraries.delete(library.id, owner="ann")
    ledger.succeed(claim, make_report(audit_id))
    ledger.libraries.delete("benign", owner="ann")
    with pytest.raises(LibraryNotFound):
        ledger.libraries.get(library.id, owner="ann")
    assert ledger.get(audit_id).spec.library == "benign"
    # The same call, sent again, still gives the same audit.
    assert not ledger.submit(make_spec(library="benign"), owner="ann", idempotency_key="k").created


def test_deleting_takes_the_entries_along(ledger, library, finished):
    audit_id = finished()
    ledger.libraries.add("benign", owner="ann", audit_id=audit_id, recipe=None)
    ledger.libraries.delete("benign", owner="ann")
    again = ledger.libraries.create("benign", owner="ann")
    assert again.entries == 0
    assert ledger.libraries.add("benign", owner="ann", audit_id=audit_id, recipe=None).library_id == again.id


def test_lengths_are_bounded(ledger, library, finished, monkeypatch):
    monkeypatch.setattr(rules, "MAX_LIBRARIES", 2)
    monkeypatch.setattr(rules, "MAX_ENTRIES", 1)
    ledger.libraries.create("second", owner="ann")
    with pytest.raises(LibraryFull):
        ledger.libraries.create("third", owner="ann")
    ledger.libraries.create("first", owner="bob")
    ledger.libraries.add("benign", owner="ann", audit_id=finished("sha256:a"), recipe=None)
    with pytest.raises(LibraryFull):
        ledger.libraries.add("benign", owner="ann", audit_id=finished("sha256:b"), recipe=None)


def test_tokens_belong_to_their_listing():
    token = keyset.token("entry_1", keyset.mark("entries", "a"))
    assert keyset.last_id(token, keyset.mark("entries", "a"), str.isascii) == "entry_1"
    with pytest.raises(InvalidPageToken, match="other filters"):
        keyset.last_id(token, keyset.mark("entries", "b"), str.isascii)
    with pytest.raises(InvalidPageToken, match="not one"):
        keyset.last_id(token, keyset.mark("entries", "a"), str.isnumeric)


def test_every_foreign_key_has_an_index(ledger):
    look = inspect(ledger._database.engine)
    for table in ("library_entries", "audit_libraries"):
        first = {index["column_names"][0] for index in look.get_indexes(table)}
        first.add(look.get_pk_constraint(table)["constrained_columns"][0])
        for key in look.get_foreign_keys(table):
            assert key["constrained_columns"][0] in first, table
