"""Whose tags a verdict becomes: those of the weights that were audited, whatever has their name now."""

import pytest

from models_store.sources.mlflow_registry import MlflowRegistry
from models_store.store import ModelsStore
from service.mlflow.tags import PREFIX, TagLoop
from service.openapi_document.report_examples import REPORT
from tests.service.conftest import SPEC
from tests.toy import write_toy_adapter

VERDICT = f"{PREFIX}verdict"


@pytest.fixture
def write(registry, dependencies, tmp_path):
    """Write the tags that are due, as the service does; and the store that it fetches into."""
    known = MlflowRegistry(registry.url, allowed_models=frozenset({"*"}))
    store = ModelsStore(models_root=tmp_path, store_dir=tmp_path / "store", offline=False, registry=known)
    loop = TagLoop(dependencies.ledger.tags, known, store.fetched_digest, (0.1,), None)
    return loop._write_next, store


def audited(dependencies, end, reference, digest):
    """An audit of a version that found something."""
    from backdoor_audit.contract.spec.audit_spec import AuditSpec

    spec = AuditSpec.model_validate(SPEC | {"fine_tuned": reference})
    audit_id = dependencies.ledger.submit(spec, owner="ann").audit.id
    end(dependencies, audit_id, provenance=REPORT["provenance"] | {"tuned_digest": digest})


@pytest.mark.parametrize("fetched_again", [False, True])
def test_other_weights_under_the_name_get_no_verdict(
    registry, write, dependencies, end, toy_adapter, tmp_path, fetched_again
):
    write_due, store = write
    name = f"swapped-{int(fetched_again)}"
    reference = registry.register(name, toy_adapter)
    audited(dependencies, end, reference, store.resolve(reference).digest)
    other = write_toy_adapter(tmp_path / "other", toy_adapter.parent / "base", seed=2)
    registry.client().delete_registered_model(name)
    assert registry.register(name, other) == reference
    if fetched_again:
        assert store.resolve(reference).digest is not None
    assert write_due()
    assert VERDICT not in registry.tags(reference)


def test_the_weights_that_were_audited_get_it(registry, write, dependencies, end, toy_adapter):
    write_due, store = write
    reference = registry.register("kept", toy_adapter)
    digest = store.resolve(reference).digest
    audited(dependencies, end, reference, digest)
    assert write_due()
    tags = registry.tags(reference)
    assert (tags[VERDICT], tags[f"{PREFIX}digest"]) == (REPORT["verdict"], digest)
