"""Schemathesis against the running service: whatever the document allows is answered as the document says.

The ordinary run is a small, deterministic one. ``make test-schemathesis`` tries a hundred examples of each call, and
sequences of calls.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from backdoor_audit.contract.report.audit_report import AuditReport
from jobs.errors import KeyNotFound, LedgerError
from service.openapi_document.report_examples import REPORT

EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "0"))
"""Examples of each call in the long form; 0 for the small one."""
CONFIG = Path(__file__).with_name("schemathesis.toml")
SEED = "20260112"


@pytest.fixture
def busy(serve):
    """A service with a key, and somebody who plays the worker, so that there are reports and streams end."""
    served = serve(require_keys=True, max_queued=1_000_000, requests_per_minute=0)
    ledger = served.dependencies.ledger
    done = threading.Event()

    def work():
        while not done.wait(0.2):
            for record in ledger.list(status="queued").audits:
                try:
                    claim = ledger.claim(record.id, worker="test")
                    if claim is not None:
                        ledger.succeed(claim, AuditReport.model_validate(REPORT | {"audit_id": record.id}))
                except LedgerError:
                    continue

    thread = threading.Thread(target=work)
    thread.start()
    yield served
    done.set()
    thread.join()


@pytest.mark.timeout(300 if EXAMPLES == 0 else 6 * 3600)
def test_schemathesis_finds_nothing(busy, tmp_path, monkeypatch):
    ring = busy.dependencies.ledger.keys
    record, token = ring.create(owner="ann", name="schemathesis", scopes=["admin"])
    # Else the run finds its own key in the list or in a decision, revokes it, and from then on tests refusals alone.
    everything, ended = ring.list, ring.revoke

    def revoke(key_id):
        if key_id == record.id:
            raise KeyNotFound
        ended(key_id)

    monkeypatch.setattr(ring, "list", lambda: tuple(key for key in everything() if key.id != record.id))
    monkeypatch.setattr(ring, "revoke", revoke)
    if EXAMPLES:
        how = ["--max-examples", str(EXAMPLES), "--seed", os.environ.get("SCHEMATHESIS_SEED", SEED)]
    else:
        how = ["--max-examples", "2", "--phases", "examples,coverage,fuzzing", "--generation-deterministic"]
    document = str(busy.http.base_url.join("/openapi.json"))
    output = tmp_path / "schemathesis.txt"
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", document]
    options = ["-H", f"Authorization: Bearer {token}", "--checks", "all", "--continue-on-failure", "--no-color"]
    with output.open("w") as file:
        code = subprocess.run(
            [*command, *options, *how], cwd=tmp_path, stdout=file, stderr=file, check=False
        ).returncode
    lines = [line[:400] for line in output.read_text().splitlines()]
    assert code == 0, "\n".join(lines[-400:])
    assert busy.dependencies.ledger.keys.check(token) is not None
