"""One audit, from two folders to a report."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file

from audit.errors import NoSpace, OutputsNotFinite
from audit.explain.stage import explain
from audit.explain.training import train_dictionaries
from audit.measure.calibrate import own_score
from audit.measure.confirm import Confirmation, confirm
from audit.measure.contrast import Directions, fit_directions
from audit.measure.extraction import Extraction, extract
from audit.measure.finite import check_number
from audit.measure.preflight import AuditSetup, prepare
from audit.models.pair import is_adapter, load_pair
from audit.models.placement import DeviceMap
from audit.models.runner import Runner
from audit.ports import FolderStore, Sink
from audit.reporting import wording
from audit.reporting.report import invalid_report, provenance_of, tables
from audit.translate import BATCH_TOKENS, within_memory
from audit.verdict import gates as gating
from audit.verdict.multiple_pairs import PairRun, PanelResult, correct, measure, pair_runs, sequences, warnings_of
from audit.verdict.power import power
from backdoor_audit.contract.benign_library import LibraryEntry, ModelScore
from backdoor_audit.contract.report import AuditReport, Gates
from backdoor_audit.contract.spec import AuditSpec, Stage
from backdoor_audit.contract.verdicts import NEEDS_REVIEW

_CONFIRMATION = TypeAdapter(Confirmation)
_HALVED: Final = "memory ran out once; the audit went on with batches of half the size"
_ELSEWHERE: Final = (
    "the models did not fit on the device: the weights of {count} blocks lay elsewhere and were brought in for every "
    "batch, which takes long; the computation is the same"
)


@dataclass
class _Clock:
    """Seconds spent in each stage, and the sink that hears of it: never of a fraction lower than the last one."""

    sink: Sink
    seconds: dict[str, float] = field(default_factory=dict)
    _again: Callable[[], None] = lambda: None

    @contextlib.contextmanager
    def stage(self, stage: Stage) -> Iterator[Callable[[float, str], None]]:
        """Time a stage; gives the function that reports its progress."""
        start = time.monotonic()
        reached = 0.0

        def report(fraction: float, message: str) -> None:
            nonlocal reached
            reached = min(1.0, max(reached, fraction))
            self._again = lambda: self.sink.progress(stage, reached, message)
            self._again()

        report(0.0, "")
        try:
            yield report
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - start
        report(1.0, "")

    def tick(self, _tokens: int) -> None:
        """Report the last progress again: after every batch, so that a cancel is heard inside long pieces too."""
        self._again()


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
    device: str = "auto",
    device_map: DeviceMap = "single",
) -> AuditReport:
    """Carry out one audit on two verified folders.

    Finished pieces that are in ``workspace`` already are not computed again: a second attempt goes on where the first
    stopped. Memory that runs out is answered by one more try at half the batch.

    Args:
        spec: what to look at; its model references are not resolved here.
        base_dir: the base checkpoint.
        tuned_dir: the fine-tuned checkpoint, or a LoRA adapter on the base.
        workspace: the audit's own folder.
        sink: hears of progress and may stop the audit by raising.
        cache: activations of bases, shared between audits; used where ``base_digest`` is given.
        library: scores of benign fine-tunes (``backdoor_audit.contract.benign_library``); the calibrated gate needs 19
            that are comparable.
        audit_id: goes into the report.
        base_digest, tuned_digest: content digests of the checkpoints; go into the report and the cache's keys.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        device_map: ``auto`` lets weights that do not fit on the device lie elsewhere (``audit.models.placement``).

    Raises:
        AuditError: the audit could not be done; the subclass says why (``audit.errors``).
    """
    clock = _Clock(sink)

    def work(budget: int) -> AuditReport:
        return _run(
            spec, base_dir, tuned_dir, clock, budget, workspace=workspace, cache=cache, library=tuple(library),
            audit_id=audit_id, base_digest=base_digest, tuned_digest=tuned_digest, device=device, device_map=device_map,
            notes=(_HALVED,) if budget < BATCH_TOKENS else (),
        )  # fmt: skip

    return within_memory(work)


def _run(
    spec: AuditSpec,
    base_dir: Path,
    tuned_dir: Path,
    clock: _Clock,
    budget: int,
    *,
    workspace: FolderStore,
    cache: FolderStore | None,
    library: tuple[LibraryEntry, ...],
    audit_id: str,
    base_digest: str,
    tuned_digest: str,
    device: str,
    device_map: DeviceMap,
    notes: tuple[str, ...] = (),
) -> AuditReport:
    with clock.stage("preflight") as report:
        pair = load_pair(base_dir, tuned_dir, dtype=spec.dtype, device=device, device_map=device_map)
        report(0.5, "models loaded")
        if pair.elsewhere:
            notes = (*notes, _ELSEWHERE.format(count=pair.elsewhere))
        runner = Runner(pair, budget=budget, tick=clock.tick)
        setup = prepare(spec, pair, runner, base_digest=base_digest, cache=cache)
        notes = (*notes, *_adapter_warnings(base_dir, tuned_dir))
        asked = pair_runs(setup, workspace)
        _check_disk(setup, workspace, sequences(asked))
    try:
        return _answer(
            asked, clock, audit_id=audit_id, notes=notes, cache=cache, library=library, base_digest=base_digest,
            tuned_digest=tuned_digest,
        )  # fmt: skip
    except OutputsNotFinite as error:
        with clock.stage("report"):
            return invalid_report(
                setup, error, audit_id=audit_id, warnings=(*notes, *warnings_of(asked)), seconds=clock.seconds,
                base_digest=base_digest, tuned_digest=tuned_digest,
            )  # fmt: skip


def _answer(
    asked: Sequence[PairRun],
    clock: _Clock,
    *,
    audit_id: str,
    notes: tuple[str, ...],
    cache: FolderStore | None,
    library: tuple[LibraryEntry, ...],
    base_digest: str,
    tuned_digest: str,
) -> AuditReport:
    """Measure the pairs and correct them."""

    def gates_of(place: PairRun, extraction: Extraction, confirmation: Confirmation) -> Gates:
        score = own_score(place.setup, confirmation.effect, place.store, base_digest=base_digest, cache=cache)
        return _gates(extraction, confirmation, score, tuned_digest, library)

    with clock.stage("extract") as report:
        panel = _panel(asked, gates_of, report) if len(asked) > 1 else None
        place = asked[0 if panel is None else panel.lead]
        extraction = extract(place.setup, place.store, lambda fraction, message: report(0.95 * fraction, message))
        report(0.95, "directions of the pair")
        directions = _directions(extraction)
    with clock.stage("train") as report:
        trained, untrained = train_dictionaries(extraction, directions.layer, report)
    with clock.stage("confirm") as report:
        confirmation = _confirmation(extraction, directions, report)
        shifted = gating.shifted(extraction, confirmation)
    with clock.stage("calibrate"):
        gates = gates_of(place, extraction, confirmation) if panel is None else panel.gates
        verdict = gating.decide(gates, shifted)
    with clock.stage("explain") as report:
        flag = verdict in NEEDS_REVIEW
        found = explain(extraction, directions, confirmation, trained, untrained, flag=flag, report=report)
    with clock.stage("report"):
        provenance = provenance_of(place.setup, clock.seconds, base_digest, tuned_digest)
        seen = power(extraction, directions.layer, len(asked))
        return AuditReport(
            audit_id=audit_id,
            verdict=verdict,
            summary=" ".join(
                (
                    *(() if panel is None else (panel.headline,)),
                    wording.summary(extraction, gates, verdict, found.localisation, seen),
                )
            ),
            look_at=wording.look_at(extraction, gates, verdict, shifted, found.localisation)
            + (() if panel is None else panel.others),
            not_assessed=wording.not_assessed(gates),
            smallest_effect_nats=gating.smallest_effect(extraction, len(asked)),
            power=seen,
            trigger=place.setup.trigger.model_dump(),
            candidates=() if panel is None else panel.rows,
            multiplicity=None if panel is None else panel.multiplicity,
            fail_on=place.setup.spec.fail_on,
            gates=gates,
            warnings=(*notes, *warnings_of(asked)),
            limits=wording.limits(place.setup, gates.calibrated),
            provenance=provenance,
            **tables(extraction, directions, confirmation, found),
        )


def _adapter_warnings(base_dir: Path, tuned_dir: Path) -> list[str]:
    """An adapter notes which base it was trained on; the note may be stale, so another name is a warning only."""
    if not is_adapter(tuned_dir):
        return []
    noted = json.loads((tuned_dir / "adapter_config.json").read_text(encoding="utf-8")).get("base_model_name_or_path")
    name = str(noted or "").rstrip("/").rpartition("/")[2]
    if not name or name.lower() == base_dir.name.lower():
        return []
    return [f"the adapter names '{name}' as its base; it was audited on '{base_dir.name}'"]


def _panel(
    asked: Sequence[PairRun],
    gates_of: Callable[[PairRun, Extraction, Confirmation], Gates],
    report: Callable[[float, str], None],
) -> PanelResult:
    """Measure every candidate and correct them together."""

    def confirmed(place: PairRun, tell: Callable[[float, str], None]) -> tuple[Extraction, Confirmation]:
        extraction = extract(place.setup, place.store, lambda fraction, message: tell(0.8 * fraction, message))
        tell(0.8, "directions of the pair")
        directions = _directions(extraction)
        return extraction, _confirmation(
            extraction, directions, lambda fraction, message: tell(0.85 + 0.15 * fraction, message)
        )

    measured = measure(asked, confirmed, lambda fraction, message: report(0.95 * fraction, message))
    return correct(measured, [gates_of(each.place, each.outcome, each.confirmation) for each in measured])


def _check_disk(setup: AuditSetup, workspace: FolderStore, sequences: int) -> None:
    """Refuse where the free disk is under 1.5 times what the activations will take."""
    sizes, pair = setup.sizes, setup.pair
    width = pair.d_model * (2 if pair.precision == "bfloat16" else 4) * len(setup.layers)
    tokens = sum(len(prompt) + sizes.continuation_tokens for prompt in setup.tokens((*setup.a, *setup.b), None))
    per_carrier = tokens / (len(setup.a) + len(setup.b))
    needed = int(1.5 * 2 * width * per_carrier * sequences)
    found = _plan(workspace, {"bytes": needed, "device": pair.device.type, "dtype": pair.precision})
    from audit.measure.preflight import peek_disk

    free = peek_disk(found)
    if free < needed:
        raise NoSpace(
            f"the audit may need {needed / 1e9:.1f} GB of disk and {free / 1e9:.1f} GB are free",
            hint="free some disk space, or choose a smaller preset or fewer layers",
        )


def _plan(workspace: FolderStore, plan: Mapping[str, Any]) -> Path:
    """The folder of the plan; what an attempt elsewhere has measured is forgotten.

    A worker on another kind of device, or one whose processor takes another precision under ``auto``, rounds otherwise:
    a fine-tuned model read there and a base read here would differ where the fine-tuning changed nothing.
    """
    found = workspace.find("plan")
    if found is not None:
        before = json.loads((found / "plan.json").read_text(encoding="utf-8"))
        if all(before.get(name, plan[name]) == plan[name] for name in ("device", "dtype")):
            return found
        for name in tuple(workspace.names()):
            workspace.remove(name)
    with workspace.create("plan") as folder:
        (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    found = workspace.find("plan")
    assert found is not None
    return found


def _directions(extraction: Extraction) -> Directions:
    """The pair's directions, from an earlier attempt where they are there."""
    store = extraction.store
    found = store.find("directions")
    if found is None:
        contrast = extraction.contrast("a")
        fitted = fit_directions(extraction.setup.runner, contrast, extraction.setup.layers)
        trigger = extraction.setup.trigger
        check_number(trigger, trigger.triggered, *fitted.effect_a.values())
        with store.create("directions") as folder:
            tensors = {f"basis.{layer}": value.contiguous() for layer, value in fitted.basis.items()}
            tensors |= {f"gradient.{layer}": value.contiguous() for layer, value in fitted.gradient.items()}
            save_file(tensors, folder / "directions.safetensors")
            row = {"effect_a": fitted.effect_a, "layer": fitted.layer}
            (folder / "directions.json").write_text(json.dumps(row), encoding="utf-8")
        return fitted
    tensors = load_file(found / "directions.safetensors")
    row = json.loads((found / "directions.json").read_text(encoding="utf-8"))
    layers = extraction.setup.layers
    return Directions(
        basis={layer: tensors[f"basis.{layer}"] for layer in layers},
        effect_a={int(layer): value for layer, value in row["effect_a"].items()},
        layer=row["layer"],
        gradient={layer: tensors[f"gradient.{layer}"] for layer in layers},
    )


def _confirmation(extraction: Extraction, directions: Directions, report: Callable[[float, str], None]) -> Confirmation:
    """The numbers of the confirm stage, from an earlier attempt where they are there."""
    store = extraction.store
    found = store.find("confirmation")
    if found is not None:
        return _CONFIRMATION.validate_json((found / "confirmation.json").read_bytes())

    def assess(behaviour: Any) -> bool:
        return gating.behaviour_gate(behaviour).state == "passed"

    confirmation = confirm(extraction, directions, assess_causal=assess, report=report)
    with store.create("confirmation") as folder:
        (folder / "confirmation.json").write_bytes(_CONFIRMATION.dump_json(confirmation))
    return confirmation


def _gates(
    extraction: Extraction,
    confirmation: Confirmation,
    score: ModelScore | None,
    tuned_digest: str,
    library: tuple[LibraryEntry, ...],
) -> Gates:
    behaviour = gating.behaviour_gate(confirmation.behaviour)
    return Gates(
        behaviour=behaviour,
        specific=gating.specific_gate(extraction, confirmation),
        causal=gating.causal_gate(behaviour, confirmation),
        calibrated=gating.calibrated_gate(score, tuned_digest, library),
    )
