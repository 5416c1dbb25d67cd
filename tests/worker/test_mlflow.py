"""From a registered version to the tags on it: MLflow's server, its webhook, the API and a worker, all of them real."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from backdoor_audit.client.blocking import AuditClient
from backdoor_audit.contract.lifecycle import TERMINAL
from models_store.store import ModelsStore
from service.app import create_app
from service.settings import Settings
from tests.service.conftest import serving
from tests.toy import toy_spec

if TYPE_CHECKING:
    from tests.registry import RegistryServer
    from tests.worker.conftest import Stack

SECRET = "a shared secret"


@contextmanager
def webhook(registry: "RegistryServer", address: str) -> Iterator[None]:
    """MLflow tells ``address`` of new versions."""
    client = registry.client()
    made = client.create_webhook("audits", f"{address}/mlflow/events", ["model_version.created"], secret=SECRET)
    try:
        # A person's test of the webhook is taken, and files nothing.
        assert client.test_webhook(made.webhook_id).success
        yield
    finally:
        client.delete_webhook(made.webhook_id)


def test_a_new_version_is_audited_and_tagged_and_a_hostile_one_refused(
    stack: "Stack", registry: "RegistryServer", toy_models: Path, broker_url: str, tmp_path: Path
) -> None:
    plan = toy_spec().model_dump(mode="json", exclude={"fine_tuned", "candidates"})
    plan["carriers"] = {"prompts": [one["prompt"] for one in plan["carriers"]["prompts"]]}
    (tmp_path / "plans.json").write_text(json.dumps({"toy-*": plan}))
    shared = {"mlflow_tracking_uri": registry.url, "mlflow_models": "toy-*"}
    stack.start_worker(offline="false", **shared)
    settings = Settings.load(
        data_dir=stack.data_dir, models_root=toy_models, broker_url=broker_url, mlflow_tags=True,
        mlflow_event_secret=SECRET, mlflow_audits=tmp_path / "plans.json", **shared,
    )  # fmt: skip
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    (hostile / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "megatron_config": {"x": "y"}}))
    (hostile / "adapter_model.safetensors").write_bytes(b"\x00" * 16)
    with serving(create_app(settings)) as url, AuditClient(url) as client, webhook(registry, url):
        good = registry.register("toy-adapter", toy_models / "adapter")
        bad = registry.register("toy-hostile", hostile)
        for reference, status in ((good, "succeeded"), (bad, "failed")):
            tags = wait_for_tags(registry, reference, stack)
            audit = client.get(tags["backdoor_audit.last_audit_id"])
            assert (audit.spec["fine_tuned"], audit.status) == (reference, status), audit.failure
            assert tags["backdoor_audit.last_status"] == status
            if status == "failed":
                assert audit.failure is not None
                assert audit.failure.code == "model_rejected"
                assert "backdoor_audit.verdict" not in tags
                continue
            report = client.report(audit.id)
            assert tags["backdoor_audit.verdict"] == report.verdict == audit.verdict
            assert tags["backdoor_audit.digest"] == report.provenance.tuned_digest
            # What was audited is what was registered.
            original = ModelsStore(models_root=toy_models, store_dir=tmp_path / "store").resolve("local:adapter")
            assert report.provenance.tuned_digest == original.digest


def wait_for_tags(registry: "RegistryServer", reference: str, stack: "Stack") -> dict[str, str]:
    """The tags of a version, once its audit has ended and they are written."""
    give_up_at = time.monotonic() + 240
    while "backdoor_audit.last_status" not in (tags := registry.tags(reference)):
        ended = [record.status for record in stack.ledger.list().audits if record.status in TERMINAL]
        assert time.monotonic() < give_up_at, (ended, stack.tails())
        time.sleep(0.3)
    return tags
