"""Runs one audit, from two folders to a report.

``run_audit`` is the only entry point. It loads and checks both models (preflight), measures the pair and its decoys on
half A (extract), trains dictionaries on them (train), measures on half B what the directions of A do (confirm),
compares with benign models (calibrate), describes features (explain) and writes the report.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from audit.clock import StageClock, part
from audit.errors import OutputsNotFinite
from audit.explain.stage import explain
from audit.explain.training import train_dictionaries
from audit.measure.calibrate import own_score
from audit.measure.confirm import Behaviour, Confirmation
from audit.measure.extraction import Extraction, extract
from audit.measure.preflight import check_disk, disk_bytes, prepare
from audit.measure.resume import obtain_confirmation, obtain_plan
from audit.models.adapters import is_adapter
from audit.models.pair import load_pair
from audit.models.runner import Runner
from audit.plan import given_carriers, too_few
from audit.ports import AuditInputs, DeviceMap, FolderStore, ProgressCallback, Sink
from audit.reporting.report import Results, audit_report, invalid_report
from audit.reporting.searched import searched_report
from audit.search import lists
from audit.search.judged import judged_spec
from audit.search.ordinary import ordinary
from audit.search.stage import search
from audit.translate import BATCH_TOKENS, within_memory
from audit.verdict import gates as gating
from audit.verdict.multiple_pairs import (
    PairRun,
    PanelResult,
    correct,
    decoy_sets,
    measure_pairs,
    pair_runs,
    warnings_of,
)  # fmt: skip
from backdoor_audit.contract.benign_library import LibraryEntry
from backdoor_audit.contract.digests import FileDigest
from backdoor_audit.contract.report.audit_report import AuditReport
from backdoor_audit.contract.report.gates import Gates
from backdoor_audit.contract.report.search import SearchResult
from backdoor_audit.contract.report.verdicts import NEEDS_REVIEW
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from backdoor_audit.contract.spec.search import SearchSpec

HALVED: Final = "memory ran out once; the audit continued with half the batch size"
_ELSEWHERE: Final = (
    "the models did not fit on the device: the weights of {count} blocks were kept elsewhere and loaded for every "
    "batch, which takes longer; the results are the same"
)


def run_audit(
    spec: AuditSpec,
    base_dir: Path,
    tuned_dir: Path,
    *,
    workspace: FolderStore,
    sink: Sink,
    cache: FolderStore | None = None,
    library: Sequence[LibraryEntry] = (),
    audit_id: str = "local",
    base_digest: str = "",
    tuned_digest: str = "",
    base_files: tuple[FileDigest, ...] = (),
    tuned_files: tuple[FileDigest, ...] = (),
    device: str = "auto",
    device_map: DeviceMap = "single",
) -> AuditReport:
    """Carry out one audit on two verified folders.

    Parts that an earlier attempt finished in ``workspace`` are not computed again. When memory runs out, the audit is
    tried once more with half the batch size.

    Args:
        spec: what to test and how; its model references are not resolved here.
        base_dir: the base checkpoint.
        tuned_dir: the fine-tuned checkpoint, or a LoRA adapter for the base.
        workspace: the audit's own folder.
        sink: receives progress and may stop the audit by raising.
        cache: activations of bases, shared between audits; used if ``base_digest`` is given.
        library: scores of benign fine-tunes (``backdoor_audit.contract.benign_library``); the calibrated gate needs 19
            comparable ones.
        audit_id: copied into the report.
        base_digest, tuned_digest: content digests of the checkpoints; part of the report and of the cache's keys.
        base_files, tuned_files: the files that these digests are of; part of the report.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        device_map: ``auto`` keeps weights that do not fit on the device elsewhere (``audit.models.placement``).

    Raises:
        AuditError: the audit could not be carried out; the subclass says why (``audit.errors``).
    """
    inputs = AuditInputs(
        spec, base_dir, tuned_dir, workspace, sink, cache, tuple(library), audit_id, base_digest, tuned_digest,
        base_files, tuned_files, device, device_map,
    )  # fmt: skip
    clock = StageClock(sink)
    return within_memory(lambda budget: _Attempt(inputs, clock, budget).run())


@dataclass(frozen=True)
class _Attempt:
    """Try the audit once, with batches of ``budget`` padded tokens."""

    inputs: AuditInputs
    clock: StageClock
    budget: int

    def run(self) -> AuditReport:
        """Load the models, measure, report; search for the strings first, if the spec names none."""
        spec = self.inputs.spec
        with self.clock.stage("preflight") as progress:
            runner, notes = self._load(progress)
            if spec.search is None:
                runs = self._prepared(runner, spec, progress)
        if spec.search is None:
            return self._reported(runs, notes)
        with self.clock.stage("search") as progress:
            found, judged = self._searched(runner, spec.search, part(progress, 0.0, 0.95))
            runs = self._prepared(runner, judged, part(progress, 0.95, 1.0))
        return searched_report(self._reported(runs, notes), found, spec)

    def _reported(self, runs: Sequence[PairRun], notes: tuple[str, ...]) -> AuditReport:
        """Measure the pairs and write the report, also of models that cannot be measured."""
        try:
            return self._measure(runs, notes)
        except OutputsNotFinite as error:
            with self.clock.stage("report"):
                warnings = (*notes, *warnings_of(runs))
                return invalid_report(runs[0].setup, error, self.inputs, warnings, self.clock.seconds)

    def _load(self, progress: ProgressCallback) -> tuple[Runner, tuple[str, ...]]:
        """Load both models; returns what runs them, and warnings for the report."""
        inputs, spec = self.inputs, self.inputs.spec
        pair = load_pair(
            inputs.base_dir, inputs.tuned_dir, dtype=spec.dtype, device=inputs.device, device_map=inputs.device_map
        )
        progress(0.5, "models loaded")
        notes = [HALVED] if self.budget < BATCH_TOKENS else []
        if pair.elsewhere:
            notes.append(_ELSEWHERE.format(count=pair.elsewhere))
        notes.extend(other_base(spec.base_model, inputs.tuned_dir))
        return Runner(pair, budget=self.budget, tick=self.clock.tick), tuple(notes)

    def _searched(
        self, runner: Runner, asked: SearchSpec, progress: ProgressCallback
    ) -> tuple[SearchResult, AuditSpec]:
        """Search for strings; returns what was found, and the spec of the audit that judges it."""
        inputs, pair = self.inputs, runner.pair
        spec = inputs.spec
        # Pieces that were computed on another kind of device are deleted before the search reads any.
        obtain_plan(inputs.workspace, {"bytes": 0, "device": pair.device.type, "dtype": pair.precision})
        found = search(
            pair, asked, given_carriers(spec), workspace=inputs.workspace, progress=progress, tick=self.clock.tick,
            cache=inputs.cache, base_digest=inputs.base_digest, render=spec.render, seed=spec.seed,
            batch_tokens=self.budget,
        )  # fmt: skip
        largest = () if found.largest is None else (found.largest.string,)
        (word,) = ordinary(lists.ordinary_words(pair.tokenizer), 1, spec.seed, without=largest)
        return found, judged_spec(spec, found, word)

    def _prepared(self, runner: Runner, spec: AuditSpec, progress: ProgressCallback) -> tuple[PairRun, ...]:
        """Check the spec against the models; returns the pairs to test."""
        inputs, pair = self.inputs, runner.pair
        setup = prepare(spec, pair, runner, base_digest=inputs.base_digest, cache=inputs.cache)
        runs = pair_runs(setup, inputs.workspace)
        for run in runs:
            if few := too_few(len(run.setup.decoys()), spec.sizes().max_decoys):
                progress(0.9, few)
        needed = disk_bytes(setup, setup.plan.sequences(decoy_sets(runs)))
        plan = {"bytes": needed, "device": pair.device.type, "dtype": pair.precision}
        check_disk(obtain_plan(inputs.workspace, plan), needed)
        return runs

    def _measure(self, runs: Sequence[PairRun], notes: tuple[str, ...]) -> AuditReport:
        """Measure the pairs, decide the gates and write the report."""
        clock = self.clock
        with clock.stage("extract") as progress:
            panel = self._panel(runs, part(progress, 0.0, 0.95)) if len(runs) > 1 else None
            run = runs[0 if panel is None else panel.lead]
            extraction = extract(run.setup, run.store, progress)
        with clock.stage("train") as progress:
            trained, untrained = train_dictionaries(extraction, extraction.directions.layer, progress)
        with clock.stage("confirm") as progress:
            confirmation = obtain_confirmation(extraction, _is_behaviour, progress)
        with clock.stage("calibrate"):
            gates = self._gates(extraction, confirmation) if panel is None else panel.gates
            suspicious = bool(run.setup.prompt_settings.suspicious)
            verdict = gating.with_template(gating.outcome(gates, extraction).verdict, suspicious=suspicious)
        with clock.stage("explain") as progress:
            flag = verdict in NEEDS_REVIEW
            explanation = explain(
                extraction, extraction.directions, confirmation, trained, untrained, flag=flag, progress=progress
            )
        with clock.stage("report"):
            results = Results(extraction, confirmation, explanation, gates, verdict, panel)
            return audit_report(results, self.inputs, (*notes, *warnings_of(runs)), clock.seconds)

    def _panel(self, runs: Sequence[PairRun], progress: ProgressCallback) -> PanelResult:
        """Measure every candidate, and correct the gates for the number of candidates."""

        def measured(run: PairRun, progress: ProgressCallback) -> tuple[Extraction, Confirmation]:
            extraction = extract(run.setup, run.store, part(progress, 0.0, 0.85))
            return extraction, obtain_confirmation(extraction, _is_behaviour, part(progress, 0.85, 1.0))

        pairs = measure_pairs(runs, measured, progress)
        return correct(
            pairs,
            [self._gates(each.extraction, each.confirmation) for each in pairs],
            suspicious=bool(runs[0].setup.prompt_settings.suspicious),
        )

    def _gates(self, extraction: Extraction, confirmation: Confirmation) -> Gates:
        """The four gates of one pair by itself."""
        inputs = self.inputs
        score = own_score(extraction.setup, extraction.effect, base_digest=inputs.base_digest)
        behaviour = gating.behaviour_gate(confirmation.behaviour)
        return Gates(
            behaviour=behaviour,
            specific=gating.specific_gate(extraction, confirmation),
            causal=gating.causal_gate(behaviour, confirmation),
            calibrated=gating.calibrated_gate(score, inputs.tuned_digest, inputs.library),
        )


def _is_behaviour(behaviour: Behaviour) -> bool:
    """Whether the outputs react strongly enough to test the cause."""
    return gating.behaviour_gate(behaviour).state == "passed"


def other_base(reference: str, adapter: Path) -> list[str]:
    """Warn if an adapter names another base; only a warning, because the name may be outdated.

    Args:
        reference: the base's; its folder is a private view, whose name says nothing.
        adapter: the fine-tuned model's folder, whatever it holds.
    """
    if not is_adapter(adapter):
        return []
    noted = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8")).get("base_model_name_or_path")
    name = str(noted or "").rstrip("/").rpartition("/")[2]
    path = reference.partition(":")[2].partition("@")[0]
    # Of a registered model the last part is its version.
    own = path.partition("/")[0] if reference.startswith("mlflow:") else path.rpartition("/")[2]
    if not name or name.lower() == own.lower():
        return []
    return [f"the adapter names '{name}' as its base; it was audited on '{reference}'"]
