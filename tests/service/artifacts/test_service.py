"""Which artifacts go out, without HTTP."""

import pytest

from backdoor_audit.contract.spec.audit_spec import AuditSpec
from jobs.errors import AuditNotFound
from service.artifacts.service import get_artifact, get_file, list_artifacts
from service.errors import ArtifactNotFound

GOES_OUT = {
    "dictionary-diff_sae-3-0": "dictionary",
    "directions": "directions",
    "confirmation": "measurements",
    "tuned-clean-a": "activations",
    "base-clean-a": "activations",
    "decoy-0001": "activations",
}
STAYS = ("plan", "report", "continuations", "directions@pair-00", "confirmations", "dictionary", "tuned", "noise")


@pytest.fixture
def audit_id(dependencies, spec):
    audit_id = dependencies.ledger.submit(AuditSpec.model_validate(spec), owner="ann").audit.id
    for number, name in enumerate((*GOES_OUT, *STAYS)):
        with dependencies.artifacts.folder(audit_id).create(name) as folder:
            (folder / "one").write_bytes(b"1" * number)
            (folder / "two").write_bytes(b"2")
    return audit_id


def test_results_go_out_and_working_state_stays(dependencies, audit_id):
    listed = list_artifacts(dependencies, "ann", audit_id)
    assert {one.name: one.kind for one in listed} == GOES_OUT
    for one in listed:
        assert one == get_artifact(dependencies, "ann", audit_id, one.name)
        assert one.size_bytes == sum(file.size_bytes for file in one.files)
        assert [file.link for file in one.files] == [
            f"/audits/{audit_id}/artifacts/{one.name}/{file}" for file in ("one", "two")
        ]


@pytest.mark.parametrize("name", [*STAYS, "nothing", "../x", "tuned-../../x", ""])
def test_nothing_else_is_found_under_any_name(dependencies, audit_id, name):
    with pytest.raises(ArtifactNotFound):
        get_artifact(dependencies, "ann", audit_id, name)
    with pytest.raises(ArtifactNotFound):
        get_file(dependencies, "ann", audit_id, name, "one")


def test_a_file_is_found_by_its_name_alone(dependencies, audit_id):
    stored = get_file(dependencies, "ann", audit_id, "decoy-0001", "one")
    assert b"".join(dependencies.artifacts.read(stored, 0, stored.size_bytes)) == b"1" * 5
    for name in ("three", "../one", ""):
        with pytest.raises(ArtifactNotFound):
            get_file(dependencies, "ann", audit_id, "decoy-0001", name)


def test_another_owner_finds_nothing(dependencies, audit_id):
    for ask in (
        lambda: list_artifacts(dependencies, "bob", audit_id),
        lambda: get_artifact(dependencies, "bob", audit_id, "directions"),
        lambda: get_file(dependencies, "bob", audit_id, "directions", "one"),
    ):
        with pytest.raises(AuditNotFound):
            ask()
