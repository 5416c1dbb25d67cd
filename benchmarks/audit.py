"""Time the demo's audits from POST to report, and how much a second audit gains from the base's cached activations.

``python -m benchmarks.audit`` starts the embedded stack on a fresh data folder and submits, one after the other, an
audit of ``sql-year`` (nothing cached) and, with preset ``quick``, of ``sql-year-benign`` (another adapter, same base,
same strings) and of ``sql-year`` once more. The second does not do the same work as the first: its ratio also reflects
the work that another verdict saves. The third repeats the work of the first, so that its ratio shows only the effect of
the cache.

With ``--direct`` the same audits run in this process, through ``run_audit``, without the service around them.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from audit.ports import NullSink
from audit.run import run_audit
from backdoor_audit.client.blocking import AuditClient
from backdoor_audit.contract.report.audit_report import AuditReport
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from benchmarks.harness.goals import at_most
from benchmarks.harness.machine import ROOT, write_result
from benchmarks.harness.setup import FLAGGED, ORGANISMS, base_folder, parser
from examples.demo import BASE, CASES, copy_whole, running_stack, spec_for
from models_store.store import ModelsStore
from storage.folder_cache import FolderCache
from storage.folders import ArtifactFolder

GOAL_MINUTES = {"quick": 4.0, "standard": 15.0}
GOAL_CACHED = 0.7
ORDER = {"quick": (FLAGGED, "sql-year-benign", FLAGGED), "standard": (FLAGGED,)}
CACHE_BYTES = 20 * 10**9

# Carries out one audit and returns its report.
Auditor = Callable[[AuditSpec], AuditReport]


class AuditFailed(Exception):
    """An audit ended without a report."""


def measure(auditor: Auditor, specs: Sequence[AuditSpec]) -> list[dict[str, Any]]:
    """Carry out audits one after the other; returns seconds, stages, verdict and cache hits of each."""
    rows = []
    for spec in specs:
        start = time.perf_counter()
        report = auditor(spec)
        seconds = time.perf_counter() - start
        provenance = report.provenance
        rows.append(
            {
                "fine_tuned": spec.fine_tuned,
                "seconds": round(seconds, 2),
                "stages_s": provenance.timings_s,
                "verdict": report.verdict,
                "cache_hits": provenance.cache_hits,
                "cache_misses": provenance.cache_misses,
                "decoys_drawn": len(report.decoys),
                "dtype": provenance.dtype,
                "peak_memory_mib": round((provenance.peak_memory_bytes or 0) / 2**20),
            }
        )
        print(f"{spec.fine_tuned}: {report.verdict} in {seconds:.1f} s, stages {provenance.timings_s}", flush=True)
    return rows


def compare(first: dict[str, Any], later: dict[str, Any]) -> dict[str, float]:
    """Seconds of a later audit over those of the first: in total, and for the extract stage."""
    return {
        "total": round(later["seconds"] / first["seconds"], 3),
        "extract": round(later["stages_s"]["extract"] / first["stages_s"]["extract"], 3),
    }


@contextmanager
def through_service(data: Path) -> Iterator[Auditor]:
    """The embedded stack on a data folder; an audit is timed from its POST until a client has read the report."""
    console = Console(highlight=False)
    with running_stack(data, console) as address, AuditClient(address) as client:

        def audit(spec: AuditSpec) -> AuditReport:
            ended = client.wait(client.submit(spec).id)
            if ended.status != "succeeded":
                raise AuditFailed(f"{spec.fine_tuned}: {ended.status}, {ended.failure}")
            return client.report(ended.id)

        yield audit


@contextmanager
def directly(data: Path) -> Iterator[Auditor]:
    """``run_audit`` in this process, with a cache of its own in the data folder."""
    store = ModelsStore(models_root=data / "models", store_dir=data / "store")
    cache = FolderCache(data / "cache", max_bytes=CACHE_BYTES)

    def audit(spec: AuditSpec) -> AuditReport:
        base, tuned = store.resolve(spec.base_model), store.resolve(spec.fine_tuned)
        with tempfile.TemporaryDirectory(dir=data) as workspace:
            return run_audit(
                spec, base.path, tuned.path, workspace=ArtifactFolder(Path(workspace)), sink=NullSink(), cache=cache,
                base_digest=base.digest, tuned_digest=tuned.digest,
            )  # fmt: skip

    yield audit


@contextmanager
def fresh_data(base: Path, adapters: Path, organisms: Sequence[str], parent: Path) -> Iterator[Path]:
    """A new data folder that holds only the models; deleted afterwards."""
    parent.mkdir(parents=True, exist_ok=True)
    data = Path(tempfile.mkdtemp(prefix="bench-", dir=parent))
    try:
        copy_whole(base, data / "models" / BASE)
        for organism in set(organisms):
            copy_whole(adapters / organism, data / "models" / "organisms" / organism)
        yield data
    finally:
        shutil.rmtree(data, ignore_errors=True)


def summarise(preset: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Ratios, whether the verdicts are right, and the figures that have a goal."""
    expected = {f"local:organisms/{case.organism}": case.expected for case in CASES}
    first, *later = rows
    names = ("another_adapter", "the_same_adapter_again")
    ratios = {name: compare(first, row) for name, row in zip(names, later, strict=False)}
    figures = {
        "another_adapter": f"second audit ({preset}): another adapter, base activations cached / first",
        "the_same_adapter_again": f"third audit ({preset}): the first's work again, base activations cached / first",
    }
    goal = at_most(f"flagged audit, {preset}, POST to report", first["seconds"] / 60, GOAL_MINUTES[preset], " min")
    measured = [goal] + [at_most(figures[name], ratio["total"], GOAL_CACHED, "×") for name, ratio in ratios.items()]
    return {
        "preset": preset,
        "audits": rows,
        "verdicts_right": all(row["verdict"] == expected[row["fine_tuned"]] for row in rows),
        "ratio_to_first": ratios,
        "goals": measured,
    }


def main() -> None:
    """Measure each preset on a data folder of its own, and write one result per preset."""
    arguments = parser(__doc__)
    arguments.add_argument("--preset", choices=sorted(ORDER), action="append", help="all where none is given")
    arguments.add_argument("--adapters", type=Path, default=ORGANISMS, help="folder of the adapters")
    arguments.add_argument("--data", type=Path, default=ROOT / "data", help="where the fresh data folder is made")
    arguments.add_argument("--dtype", default="bfloat16", choices=["auto", "bfloat16", "float32"])
    arguments.add_argument("--overrides", type=json.loads, default={}, help="JSON; for trying this out")
    arguments.add_argument("--direct", action="store_true", help="run_audit in this process, no service")
    options = arguments.parse_args()
    if options.threads != torch.get_num_threads():
        torch.set_num_threads(options.threads)
        os.environ["OMP_NUM_THREADS"] = str(options.threads)  # the service's processes take it over
    base = base_folder(options.base)
    for preset in options.preset or sorted(ORDER):
        changes = {"preset": preset, "dtype": options.dtype, "overrides": options.overrides}
        specs = [AuditSpec.model_validate(spec_for(organism) | changes) for organism in ORDER[preset]]
        folder = fresh_data(base, options.adapters.absolute(), ORDER[preset], options.data.absolute())
        with folder as data, (directly if options.direct else through_service)(data) as auditor:
            rows = measure(auditor, specs)
        figures = summarise(preset, rows)
        path = write_result(
            f"audit-{preset}",
            {"through": "run_audit" if options.direct else "service", "overrides": options.overrides, **figures},
        )
        print(f"{preset}: {figures['ratio_to_first']}, verdicts right: {figures['verdicts_right']}; written to {path}")


if __name__ == "__main__":
    main()
