"""Deleting models of the store, without HTTP."""

import pytest

from backdoor_audit.contract.spec.audit_spec import AuditSpec
from models_store.errors import ModelInUse, ModelNotFound
from service.http.auth import Caller
from service.models.service import delete_model
from tests import tiny

ANN = Caller("ann", frozenset({"models:write"}), "key_1")
BOB = Caller("bob", frozenset({"models:write"}), "key_2")
ADMIN = Caller("root", frozenset({"admin"}), "key_3")


@pytest.fixture
def model(dependencies, tmp_path):
    """A model of Ann's in the store."""
    folder = tiny.write_model(tmp_path / "uploaded")
    uploads = dependencies.models.uploads.of("ann")
    for file in sorted(folder.iterdir()):
        with uploads.receiving("tiny", file.name, offset=0, total=None) as receiving:
            receiving.write(file.read_bytes())
            receiving.finish()
    dependencies.models.commit("tiny", owner="ann")
    return "tiny"


def file(dependencies, spec, owner):
    changed = spec | {"base_model": "store:tiny"}
    return dependencies.ledger.submit(AuditSpec.model_validate(changed), owner=owner).audit.id


@pytest.mark.parametrize("caller", [ANN, ADMIN])
def test_its_owner_and_an_administrator_delete_a_model(dependencies, model, caller):
    delete_model(dependencies, caller, model)
    assert not dependencies.models.has(model, owner=None)
    with pytest.raises(ModelNotFound):
        delete_model(dependencies, caller, model)


@pytest.mark.parametrize("used", [False, True])
def test_nobody_else_does_or_learns_whether_it_is_used(dependencies, model, spec, used):
    if used:
        file(dependencies, spec, "ann")
    with pytest.raises(ModelNotFound):
        delete_model(dependencies, BOB, model)
    assert dependencies.models.has(model, owner="ann")


@pytest.mark.parametrize("caller", [ANN, ADMIN])
def test_a_model_that_anybodys_unfinished_audit_names_stays(dependencies, model, spec, caller):
    audit_id = file(dependencies, spec, "bob")
    with pytest.raises(ModelInUse):
        delete_model(dependencies, caller, model)
    dependencies.ledger.request_cancel(audit_id, owner="bob")
    delete_model(dependencies, caller, model)
    assert not dependencies.models.has(model, owner=None)
