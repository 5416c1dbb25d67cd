"""Audits of checkpoints on this machine, with one record each, never repeated."""

import contextlib
import math
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from audit.errors import AuditError, Interrupted, NoSpace, OutOfMemory
from audit.ports import NullSink
from audit.run import run_audit
from backdoor_audit.contract.report.audit_report import METHOD_VERSION, AuditReport
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from benchmarks.harness.machine import describe
from benchmarks.harness.records import Line, read, write
from models_store.checkpoint import Checkpoint
from models_store.store import ModelsStore
from storage.folder_cache import FolderCache
from storage.folders import ArtifactFolder

CACHE_BYTES: Final = 20 * 10**9
# Failures that say nothing about the models: another run or another machine may succeed, so they are never recorded.
PASSING: Final = (OutOfMemory, NoSpace, Interrupted)
_PASSING_CODES: Final = frozenset({OutOfMemory.code, NoSpace.code, "deadline_exceeded"})
_DIGITS: Final = 6
# Texts that are the same in every report, or only for people.
_LEFT_OUT: Final = (
    "limits",
    "summary",
    "look_at",
    "reasons",
    "decoys",
    "also_fires_on",
    "provenance",
    "audit_id",
    "fail_on",
)


@dataclass(frozen=True)
class Bench:
    """Where a benchmark keeps uncommitted files: the base's cached activations, the workspaces."""

    data: Path

    def resolve(self, folder: Path) -> Checkpoint:
        """A verified checkpoint with its digest.

        Raises:
            StoreError: the folder is not a checkpoint that an audit would accept.
        """
        store = ModelsStore(models_root=folder.parent, store_dir=self.data / "store")
        return store.resolve(f"local:{folder.name}")

    def cache(self) -> FolderCache:
        """Activations of bases, shared between all audits."""
        return FolderCache(self.data / "cache", max_bytes=CACHE_BYTES)

    def workspace(self) -> tempfile.TemporaryDirectory[str]:
        """A folder for one audit, deleted afterwards; leftovers of killed processes are deleted now."""
        self.data.mkdir(parents=True, exist_ok=True)
        for left in self.data.glob("audit-*"):
            owner = left.name.split("-")[1]
            if owner.isdigit() and not psutil.pid_exists(int(owner)):
                shutil.rmtree(left, ignore_errors=True)
        return tempfile.TemporaryDirectory(dir=self.data, prefix=f"audit-{os.getpid()}-")

    def kept(self, name: str) -> Path:
        """A workspace that outlives a killed process; one started by another version of the method is not continued."""
        return self.data / "workspaces" / f"method-{METHOD_VERSION}" / name

    def audit(
        self, spec: AuditSpec, base: Path, tuned: Path, *, workspace: Path | None = None, device: str = "auto"
    ) -> AuditReport:
        """One audit of two folders; only its report and the base's activations are kept.

        Args:
            workspace: where finished parts are kept for another audit that shares them; by default, a folder of its
                own.

        Raises:
            AuditError: it could not be carried out.
        """
        first, second = self.resolve(base), self.resolve(tuned)
        with contextlib.ExitStack() as stack:
            folder = workspace or Path(stack.enter_context(self.workspace()))
            return run_audit(
                spec, first.path, second.path, workspace=ArtifactFolder(folder), sink=NullSink(),
                cache=self.cache(), base_digest=first.digest, tuned_digest=second.digest, device=device,
            )  # fmt: skip

    def recorded(
        self,
        spec: AuditSpec,
        base: Path,
        tuned: Path,
        out: Path | Line,
        extra: Mapping[str, Any],
        *,
        workspace: Path | None = None,
        device: str = "auto",
    ) -> dict[str, Any]:
        """The record of an audit: read if it exists, otherwise the audit is run and recorded. A failure is recorded
        too.

        A temporary failure (``PASSING``: no memory, no space, an interruption) is raised instead, and nothing is
        recorded. A record by another version of the method is replaced. The audit's workspace is kept until the record
        is written, so that a killed audit continues where it stopped; ``seconds`` are then those of the last attempt. A
        workspace that was passed in is left to the caller.

        Raises:
            OutOfMemory, NoSpace, Interrupted: to be tried again; finished parts are kept.
        """
        if done(out):
            return read(out)
        own = self.kept(out.stem if isinstance(out, Path) else out.name)
        start = time.monotonic()
        try:
            report = self.audit(spec, base, tuned, workspace=workspace or own, device=device)
            outcome = {"report": summary(report)}
        except PASSING:
            raise
        except AuditError as error:
            outcome = {"failure": {"code": error.code, "message": str(error)}}
        record = {
            **extra,
            "method_version": METHOD_VERSION,
            **outcome,
            "seconds": round(time.monotonic() - start, 1),
            **describe(),
        }
        write(out, record)
        shutil.rmtree(own, ignore_errors=True)
        return record


def done(place: Path | Line, versions: Collection[str] = (METHOD_VERSION,)) -> bool:
    """Whether there is a record by one of these versions of the method that is not of a temporary failure."""
    if not place.is_file():
        return False
    record = read(place)
    if record.get("failure", {}).get("code") in _PASSING_CODES:
        return False
    version = record.get("method_version") or record.get("report", {}).get("method_version")
    return version in versions


def summary(report: AuditReport) -> dict[str, Any]:
    """A report without its texts, with decoys as lists of numbers, and six digits per number."""
    whole = report.model_dump(mode="json")
    kept = {name: value for name, value in whole.items() if name not in _LEFT_OUT}
    kept["decoys"] = {
        "strings": [decoy.string for decoy in report.decoys],
        "firing": [decoy.state == "firing" for decoy in report.decoys],
        "effect_nats": [decoy.effect_nats for decoy in report.decoys],
        "output_kl": [decoy.output_kl for decoy in report.decoys],
        "effect_is_bound": [decoy.effect_is_bound for decoy in report.decoys],
        "unexplained_kl": [decoy.unexplained_kl for decoy in report.decoys],
        "base_reaction_ratio": [decoy.base_reaction_ratio for decoy in report.decoys],
    }
    provenance = whole["provenance"]
    kept["provenance"] = {name: provenance[name] for name in provenance if name not in ("versions", "spec_digest")}
    return rounded(kept)


def rounded(value: Any) -> Any:
    """The same JSON with six significant digits."""
    if isinstance(value, float):
        return value if not math.isfinite(value) or value == 0 else float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value
