"""What can be done with audits, without HTTP."""

import shutil

import pytest

from backdoor_audit.contract.spec.audit_spec import AuditSpec
from jobs.errors import AuditNotFound, AuditNotTerminal, IdempotencyConflict
from service.audits.service import cancel_audit, delete_audit, estimate_audit, file_audit
from service.errors import InvalidRequest, UnknownLibrary, UnknownModel
from tests import tiny


@pytest.fixture
def make_spec(spec):
    return lambda **changes: AuditSpec.model_validate(spec | changes)


@pytest.fixture
def filed(dependencies, make_spec):
    return file_audit(dependencies, "ann", make_spec()).audit


def test_without_a_broker_an_audit_is_filed_and_left_to_the_reaper(dependencies, filed):
    assert dependencies.ledger.get(filed.id, owner="ann").status == "queued"
    assert dependencies.ledger.claim(filed.id, worker="w") is not None


@pytest.fixture
def local_spec(dependencies, make_spec):
    """A spec of two models that are under the models root."""
    for seed, name in enumerate(("base", "tuned")):
        tiny.write_model(dependencies.settings.models_root / name, seed=seed)
    return make_spec(base_model="local:base", fine_tuned="local:tuned")


def test_the_same_key_files_once_even_if_the_model_is_gone(dependencies, local_spec, make_spec):
    first = file_audit(dependencies, "ann", local_spec, idempotency_key="k")
    assert first.created
    shutil.rmtree(dependencies.settings.models_root / "tuned")
    again = file_audit(dependencies, "ann", local_spec, idempotency_key="k")
    assert (again.created, again.audit.id) == (False, first.audit.id)
    with pytest.raises(UnknownModel):
        file_audit(dependencies, "ann", local_spec)
    with pytest.raises(IdempotencyConflict):
        file_audit(dependencies, "ann", make_spec(seed=1), idempotency_key="k")
    with pytest.raises(UnknownModel):
        file_audit(dependencies, "bob", local_spec, idempotency_key="k")


def test_a_library_of_another_owner_is_unknown(dependencies, make_spec):
    dependencies.ledger.libraries.create("benign", owner="bob")
    with pytest.raises(UnknownLibrary) as caught:
        file_audit(dependencies, "ann", make_spec(library="benign"))
    assert [item.pointer for item in caught.value.errors] == ["#/library"]
    assert not dependencies.ledger.list(owner="ann").audits


def test_what_cannot_be_carried_out_is_neither_filed_nor_estimated(dependencies, make_spec):
    spec = make_spec(carriers={"prompts": ["one", "two"]})
    for ask in (file_audit, estimate_audit):
        with pytest.raises(InvalidRequest) as caught:
            ask(dependencies, "ann", spec)
        assert [item.pointer for item in caught.value.errors] == ["#/carriers"]
    assert not dependencies.ledger.list(owner="ann").audits


def test_an_estimate_files_nothing(dependencies, local_spec):
    estimate = estimate_audit(dependencies, "ann", local_spec)
    assert estimate.spec_digest == local_spec.digest()
    assert estimate.sequences > 0
    assert not dependencies.ledger.list(owner="ann").audits


def test_a_cancel_ends_a_queued_audit_and_leaves_one_that_has_ended(dependencies, filed, end, make_spec):
    cancellation = cancel_audit(dependencies, "ann", filed.id)
    assert (cancellation.had_ended, cancellation.audit.status) == (False, "cancelled")
    again = cancel_audit(dependencies, "ann", filed.id)
    assert (again.had_ended, again.audit.version) == (True, cancellation.audit.version)
    other = file_audit(dependencies, "ann", make_spec()).audit
    end(dependencies, other.id)
    assert cancel_audit(dependencies, "ann", other.id).audit.status == "succeeded"


def test_whose_audit_it_is_counts_unless_nobody_asks(dependencies, filed):
    for do in (cancel_audit, delete_audit):
        with pytest.raises(AuditNotFound):
            do(dependencies, "bob", filed.id)
    assert cancel_audit(dependencies, None, filed.id).audit.status == "cancelled"


def test_an_audit_is_deleted_with_its_artifacts_once_it_has_ended(dependencies, filed, end):
    with dependencies.artifacts.folder(filed.id).create("confirmation") as folder:
        (folder / "x").write_text("x")
    with pytest.raises(AuditNotTerminal):
        delete_audit(dependencies, "ann", filed.id)
    assert dependencies.artifacts.list(filed.id) == ["confirmation"]
    end(dependencies, filed.id)
    delete_audit(dependencies, "ann", filed.id)
    assert dependencies.artifacts.list(filed.id) == []
    with pytest.raises(AuditNotFound):
        dependencies.ledger.get(filed.id, owner="ann")


def test_after_a_crash_between_the_two_deletions_it_is_deleted_again(dependencies, filed, end):
    end(dependencies, filed.id)
    dependencies.artifacts.delete(filed.id)  # as far as the crash
    delete_audit(dependencies, "ann", filed.id)
    assert not dependencies.ledger.list(owner="ann").audits
