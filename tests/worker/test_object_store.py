"""Artifacts in a bucket: the running API, a real worker with a data folder of its own, a real S3 server."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import obstore
import psutil
import pytest
from obstore.store import from_url

from service.app import create_app
from service.settings import Settings
from tests.buckets import SECRET, Buckets
from tests.service.conftest import serving
from tests.toy import SMALL, toy_spec
from tests.worker.conftest import Stack, wait_for

WAITING = "waiting for the artifact store"

ENDLESS = toy_spec(overrides=SMALL.model_copy(update={"token_visits": 50_000_000}))
"""An audit that soon begins to train, and trains longer than any test waits."""


@pytest.fixture
def bucket_stack(stack: Stack, bucket_url: str, buckets: Buckets) -> Stack:
    """Workers of this stack keep artifacts in the bucket."""
    stack.environment |= {"BACKDOOR_AUDIT_ARTIFACTS_URL": bucket_url, **buckets.environment}
    return stack


@pytest.fixture
def http(bucket_stack: Stack, bucket_url: str, toy_models: Path, tmp_path: Path) -> Iterator[httpx.Client]:
    """The API, on another data folder than the workers'."""
    settings = Settings(
        data_dir=tmp_path / "api",
        models_root=toy_models,
        database_url=bucket_stack.database_url,
        broker_url=bucket_stack.environment["BACKDOOR_AUDIT_BROKER_URL"],
        artifacts_url=bucket_url,
    )
    settings.data_dir.mkdir()
    with serving(create_app(settings)) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def keys(url: str) -> list[str]:
    return sorted(entry["path"] for page in obstore.list(from_url(url)) for entry in page)


def test_an_audit_through_the_api_and_out_of_the_bucket_again(
    bucket_stack: Stack, http: httpx.Client, bucket_url: str, buckets: Buckets
) -> None:
    stack = bucket_stack
    worker = stack.start_worker()
    filed = http.post("/audits", json=toy_spec().model_dump(mode="json", exclude_unset=True)).raise_for_status()
    audit_id = filed.json()["id"]
    sandbox = worker.sandbox()
    wait_for(lambda: "worker.sandbox" in sandbox.cmdline(), 20, worker.log)  # before, it is a copy of the worker
    environment = sandbox.environ()
    assert "PATH" in environment
    assert not [name for name in environment if name.startswith("AWS_")]
    # The store goes away while the audit runs, and comes back when the audit waits for it.
    with buckets.down():
        record = stack.wait(audit_id, lambda record: record.message == WAITING)
        assert (record.status, record.stage) == ("running", "report")
        assert not psutil.Process(worker.process.pid).children(), "the sandbox is done"
    assert stack.end_of(audit_id).status == "succeeded"

    report = http.get(f"/audits/{audit_id}/report").raise_for_status().json()
    assert report["audit_id"] == audit_id
    listed = http.get(f"/audits/{audit_id}/artifacts").raise_for_status().json()["artifacts"]
    assert {"dictionary", "directions", "measurements"} == {one["kind"] for one in listed}
    dictionary = next(one for one in listed if one["kind"] == "dictionary")
    sizes = {file["name"]: file["size_bytes"] for file in dictionary["files"]}
    for file in dictionary["files"]:
        assert len(http.get(file["link"]).raise_for_status().content) == sizes[file["name"]]
    assert json.loads(http.get(f"{_link(audit_id, dictionary)}/cfg.json").content)["d_in"] == 32
    published = {key.split("/")[2] for key in keys(bucket_url) if key.split("/")[1] == "index"}
    assert {"report", "directions", dictionary["name"]} <= published
    assert not [name for name in published if name.startswith(("tuned-", "base-", "decoy-"))]

    wait_for(lambda: not list((stack.data_dir / "work").glob("audit_*")), 20, worker.log)
    assert not (stack.data_dir / "audits").exists()
    assert http.delete(f"/audits/{audit_id}").status_code == 204
    assert keys(bucket_url) == []
    log = worker.log.read_text()
    assert "artifacts.delayed" in log
    assert SECRET not in log
    for path in stack.data_dir.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()


def test_a_store_that_is_out_keeps_audits_waiting_and_lets_them_be_cancelled(
    bucket_stack: Stack, buckets: Buckets, bucket_url: str
) -> None:
    stack = bucket_stack
    with buckets.down():
        stack.start_worker()
        first, second = stack.submit(ENDLESS), stack.submit(toy_spec(seed=1))
        record = stack.wait(first, lambda record: record.message == WAITING)
        assert record.stage == "resolve"
        stack.ledger.request_cancel(second)
    record = stack.wait(first, lambda record: record.stage in ("extract", "train"))
    assert record.attempt == 1
    with buckets.down():
        stack.ledger.request_cancel(first)
        assert stack.end_of(first).status == "cancelled"
    wait_for(lambda: keys(bucket_url) == [], 60)


@pytest.mark.long  # two workers one after the other; what they move is tested in test_publishing.py
def test_a_worker_on_another_machine_goes_on_with_what_is_in_the_bucket(
    bucket_stack: Stack, bucket_url: str, tmp_path: Path
) -> None:
    stack = bucket_stack
    first = stack.start_worker(data_dir=str(tmp_path / "one"))
    audit_id = stack.submit(ENDLESS)
    wait_for(lambda: f"{audit_id}/index/directions" in keys(bucket_url), 240, first.log)
    first.end()
    second = stack.start_worker(data_dir=str(tmp_path / "two"))
    second.sandbox()
    (fetched,) = [line["names"] for line in second.logged() if line["event"] == "artifacts.fetched"]
    assert {"plan", "continuations", "directions"} <= set(fetched)
    assert not [name for name in fetched if name.startswith(("tuned-", "base-", "decoy-"))]
    stack.ledger.request_cancel(audit_id)
    assert stack.end_of(audit_id).status == "cancelled"
    wait_for(lambda: keys(bucket_url) == [], 20, second.log)


def test_a_worker_says_what_is_wrong_with_the_address(stack: Stack) -> None:
    environment = stack.environment | {"BACKDOOR_AUDIT_ARTIFACTS_URL": f"s3://key:{SECRET}@bucket/x"}
    done = subprocess.run(
        [sys.executable, "-m", "worker"], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "credentials and endpoint come from the environment" in done.stderr
    assert SECRET not in done.stdout + done.stderr


def _link(audit_id: str, artifact: dict[str, object]) -> str:
    return f"/audits/{audit_id}/artifacts/{artifact['name']}"
