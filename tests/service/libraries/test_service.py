"""Models of benign libraries, without HTTP."""

import pytest

from backdoor_audit.contract.spec.audit_spec import AuditSpec
from jobs.errors import EntryExists, EntryRefused, LibraryNotFound
from service.errors import EntryNeedsReason, InvalidRequest
from service.libraries.service import add_entry
from service.openapi_document.report_examples import REPORT


@pytest.fixture
def audit(dependencies, spec, end):
    """File an audit, and end it with this verdict; None leaves it queued."""

    def audit(verdict="no_evidence", *, owner="ann", digest="sha256:1"):
        audit_id = dependencies.ledger.submit(AuditSpec.model_validate(spec), owner=owner).audit.id
        if verdict is not None:
            provenance = REPORT["provenance"] | {"tuned_digest": digest}
            end(dependencies, audit_id, verdict=verdict, provenance=provenance)
        return audit_id

    return audit


@pytest.fixture(autouse=True)
def _library(dependencies):
    dependencies.ledger.libraries.create("benign", owner="ann")


def add(dependencies, audit_id, owner="ann", because=None):
    return add_entry(dependencies, owner, "benign", audit_id=audit_id, recipe="clean sft", because=because)


def test_an_entry_has_the_score_of_the_audits_report(dependencies, audit):
    stored = add(dependencies, audit())
    gate = REPORT["gates"]["calibrated"]
    assert (stored.entry.score, stored.entry.recipe, stored.because) == (gate["score"], "clean sft", None)
    with pytest.raises(EntryExists):
        add(dependencies, audit())


@pytest.mark.parametrize("verdict", ["flagged", "review"])
def test_a_model_that_was_not_cleared_needs_a_reason_which_is_kept(dependencies, audit, verdict):
    audit_id = audit(verdict)
    with pytest.raises(EntryNeedsReason):
        add(dependencies, audit_id)
    assert dependencies.ledger.libraries.get("benign", owner="ann").entries == 0
    assert add(dependencies, audit_id, because="trained by us").because == "trained by us"


def test_an_audit_of_somebody_else_is_a_wrong_field_and_not_a_missing_page(dependencies, audit):
    for audit_id in (audit(owner="bob"), "audit_" + "0" * 26):
        for because in (None, "known"):
            with pytest.raises(InvalidRequest) as caught:
                add(dependencies, audit_id, because=because)
            assert [item.pointer for item in caught.value.errors] == ["#/audit_id"]


def test_the_library_comes_first(dependencies, audit):
    with pytest.raises(LibraryNotFound):
        add(dependencies, audit(owner="bob"), owner="bob")


def test_an_audit_without_a_report_has_no_score(dependencies, audit):
    with pytest.raises(EntryRefused):
        add(dependencies, audit(None))
