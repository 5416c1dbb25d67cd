"""The same audits on a GPU and on the CPU of the same machine, through the service: time, memory, and agreement of
results.

``python -m benchmarks.devices`` submits the demo's two audits with preset ``quick`` on each device in turn, with
nothing cached, timed from POST to report; then the first of them with ``standard``, on the GPU alone. If torch sees no
GPU, it measures nothing and exits with 1. The GPU's memory is what the driver reports as used, minus what was used
before.
"""

import os
import statistics
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch

from backdoor_audit.contract.report.audit_report import AuditReport
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from benchmarks.audit import fresh_data, measure, through_service
from benchmarks.harness.machine import RESULTS, ROOT, write_result
from benchmarks.harness.setup import FLAGGED, ORGANISMS, base_folder, parser
from examples.demo import CASES, spec_for

DEVICES: Final = ("cuda", "cpu")
_SAMPLE_S: Final = 0.25


class MemoryOfGpu(threading.Thread):
    """Polls the driver for the memory in use until it is stopped; MiB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before = self.peak = _used_mib()
        self._over = threading.Event()

    def run(self) -> None:
        """Poll, and keep the largest value."""
        while not self._over.wait(_SAMPLE_S):
            self.peak = max(self.peak, _used_mib())

    def stop(self) -> int:
        """The largest value minus the first."""
        self._over.set()
        self.join()
        return self.peak - self.before


def _used_mib() -> int:
    free, total = torch.cuda.mem_get_info(0)
    return (total - free) // 2**20


@contextmanager
def on_device(device: str) -> Iterator[None]:
    """The service's processes read the device from the environment."""
    os.environ["BACKDOOR_AUDIT_DEVICE"] = device
    try:
        yield
    finally:
        del os.environ["BACKDOOR_AUDIT_DEVICE"]


def audited(base: Path, data: Path, device: str, preset: str, organisms: Sequence[str]) -> dict[str, Any]:
    """Audits one after the other on one device; one row each, with results from the reports."""
    reports: list[AuditReport] = []
    specs = [AuditSpec.model_validate(spec_for(name) | {"preset": preset}) for name in organisms]
    gpu = MemoryOfGpu()
    gpu.start()
    try:
        with (
            on_device(device),
            fresh_data(base, ORGANISMS, organisms, data) as folder,
            through_service(folder) as auditor,
        ):

            def kept(spec: AuditSpec) -> AuditReport:
                reports.append(auditor(spec))
                return reports[-1]

            rows = measure(kept, specs)
    finally:
        used = gpu.stop()
    told = [
        {
            "device": report.provenance.device,
            "effect_nats": report.gates.specific.effect_nats,
            "output_kl": report.gates.behaviour.output_kl,
            "recovered": report.gates.causal.recovered,
        }
        for report in reports
    ]
    return {"device": device, "preset": preset, "gpu_memory_mib": used,
            "audits": [row | said for row, said in zip(rows, told, strict=True)]}  # fmt: skip


def compared(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The seconds and results of the first run compared with the second's, audit by audit."""
    pairs = list(zip(*(run["audits"] for run in runs), strict=True))
    stages = {stage for row, _ in pairs for stage in row["stages_s"]}
    return {
        "seconds": statistics.median(second["seconds"] / first["seconds"] for first, second in pairs),
        "by_stage": {
            stage: round(
                sum(second["stages_s"].get(stage, 0.0) for _, second in pairs)
                / max(sum(first["stages_s"].get(stage, 0.0) for first, _ in pairs), 1e-9),
                2,
            )
            for stage in sorted(stages)
        },
        "same_verdicts": all(first["verdict"] == second["verdict"] for first, second in pairs),
        "effect_nats": [[first["effect_nats"], second["effect_nats"]] for first, second in pairs],
    }


def main() -> int:
    """Measure and write the result; 1 if there is no GPU."""
    arguments = parser(__doc__)
    arguments.add_argument("--data", type=Path, default=ROOT / "data", help="where the fresh data folders are made")
    arguments.add_argument("--results", type=Path, default=RESULTS, help="folder of the result")
    arguments.add_argument("--organism", action="append", choices=[case.organism for case in CASES], help="both")
    arguments.add_argument("--no-standard", action="store_true", help="preset quick alone")
    options = arguments.parse_args()
    if not torch.cuda.is_available():
        sys.stderr.write("torch sees no GPU here: nothing was measured\n")
        return 1
    base = base_folder(options.base)
    organisms = options.organism or [case.organism for case in CASES]
    runs = [audited(base, options.data.absolute(), device, "quick", organisms) for device in DEVICES]
    figures: dict[str, Any] = {"runs": runs, "cpu_over_gpu": compared(runs)}
    path = write_result("devices", figures, options.results)
    if not options.no_standard:
        runs.append(audited(base, options.data.absolute(), DEVICES[0], "standard", [FLAGGED]))
        path = write_result("devices", figures, options.results)
    print(f"quick, CPU / GPU: {figures['cpu_over_gpu']}; written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
