"""A benign library from end to end: real audits over HTTP, by a real worker, compared with each other."""

from pathlib import Path
from typing import TYPE_CHECKING

from audit.measure.calibrate import score_model
from audit.ports import NullSink
from backdoor_audit.client.blocking import AuditClient
from backdoor_audit.contract.benign_library import ModelScore
from backdoor_audit.contract.report.audit_report import AuditReport
from service.app import create_app
from service.settings import Settings
from storage.folders import ArtifactFolder
from tests.service.conftest import serving
from tests.toy import toy_spec, write_toy_adapter

if TYPE_CHECKING:
    from tests.worker.conftest import Stack


def vouched(stack: "Stack", like: AuditReport, number: int, effect: float) -> str:
    """A finished audit of a further model: the real report with another model's digest and effect."""
    audit_id = stack.ledger.submit(toy_spec(), owner="local").audit.id
    claim = stack.ledger.claim(audit_id, worker="tests")
    assert claim is not None
    gate = like.gates.calibrated
    assert gate.key is not None
    assert gate.noise_nats is not None
    calibrated = gate.model_copy(update=dict(ModelScore.of(effect, gate.noise_nats, gate.key)))
    provenance = like.provenance.model_copy(update={"tuned_digest": f"sha256:{number}"})
    gates = like.gates.model_copy(update={"calibrated": calibrated})
    stack.ledger.succeed(
        claim, like.model_copy(update={"audit_id": audit_id, "provenance": provenance, "gates": gates})
    )
    return audit_id


def test_an_audit_is_compared_with_the_library_that_it_names(
    stack: "Stack", toy_models: Path, broker_url: str, tmp_path: Path
) -> None:
    if not (toy_models / "second").exists():
        write_toy_adapter(toy_models / "second", toy_models / "base", seed=7)
    stack.start_worker()
    settings = Settings(data_dir=stack.data_dir, models_root=toy_models, broker_url=broker_url)
    with serving(create_app(settings)) as url, AuditClient(url) as client:
        first = client.wait(client.submit(toy_spec()).id, timeout_s=240)
        report = client.report(first.id)
        gate = report.gates.calibrated
        assert gate.state == "not_assessed"
        assert gate.reason == "no benign library; 19 comparable models are needed"
        assert gate.key is not None
        assert gate.key.base_digest == report.provenance.base_digest != ""

        client.create_library("benign")
        client.add_to_library("benign", first.id, "random", because="a random adapter")
        for number in range(18):
            client.add_to_library(
                "benign", vouched(stack, report, number, 100.0 + number), "made up", because="made up"
            )
        assert client.library("benign").entries == 19

        # The same score without an audit: the same key, so that the two ways can fill one library.
        scored = score_model(
            toy_spec(), toy_models / "base", toy_models / "adapter", workspace=ArtifactFolder(tmp_path / "score"),
            sink=NullSink(), base_digest=report.provenance.base_digest, tuned_digest=report.provenance.tuned_digest,
        )  # fmt: skip
        assert scored.key == gate.key

        spec = toy_spec(fine_tuned="local:second", library="benign")
        second = client.report(client.wait(client.submit(spec).id, timeout_s=240).id)
        found = second.gates.calibrated
        assert (found.library_size, found.recipes, found.not_comparable) == (19, 2, ())
        assert found.effect_nats is not None
        assert gate.effect_nats is not None
        above = 18 + (max(gate.effect_nats, 0.0) >= max(found.effect_nats, 0.0))
        assert found.p_conformal == (1 + above) / 20
        assert found.state == "failed"
        assert found.finest_p == 0.05
        assert second.verdict != "flagged"
        assert not any("calibrated" in line for line in second.not_assessed)
