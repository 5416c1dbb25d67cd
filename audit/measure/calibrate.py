"""The calibrate stage: what makes an audit's T comparable, and the score of a single model.

A score needs the pair's directions and T, but no decoys and no dictionaries. ``score_model`` measures just that, with
the code of an audit's own stages, so that scores cost a fraction of as many audits.
"""

import math
from pathlib import Path
from typing import Final

from audit.errors import InvalidAudit
from audit.measure.contrast import Contrast, fit_directions
from audit.measure.extraction import capped_effect
from audit.measure.preflight import AuditSetup, prepare
from audit.models.pair import load_pair
from audit.models.runner import Activations, Runner
from audit.ports import FolderStore, Sink
from audit.prompts import carriers as carrier_sets
from audit.translate import within_memory
from backdoor_audit.contract.benign_library import ComparabilityKey, LibraryEntry, ModelScore
from backdoor_audit.contract.report.audit_report import METHOD_VERSION
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from backdoor_audit.contract.spec.carriers import Carrier
from backdoor_audit.contract.spec.trigger_kind import differing_part, kind_of

NOISE_NATS: Final = 1e-6
"""τ: the accuracy of a sum of float32 divergences. It shifts all scores alike, and p is a rank."""
_NAME: Final = "score"
_FILE: Final = "score.json"


def key_of(setup: AuditSetup, base_digest: str) -> ComparabilityKey:
    """Everything besides the fine-tuned model that this setup's T depends on."""
    trigger = setup.trigger
    return ComparabilityKey(
        base_digest=base_digest,
        carriers_digest=carrier_sets.digest((*setup.a, *setup.b)),
        template=trigger.template,
        rendering=setup.rendering,
        chat_template=setup.templates.foreign_digest,
        layers=setup.layers,
        architectures=tuple(sorted(setup.spec.architectures)),
        decoy_carriers_a=setup.decoys_a,
        decoy_carriers_b=setup.decoys_b,
        continuation_tokens=setup.sizes.continuation_tokens,
        dtype=setup.pair.precision,
        trigger_kind=kind_of(differing_part(trigger.triggered, trigger.clean)[1]),
        method_version=METHOD_VERSION,
    )


def own_score(setup: AuditSetup, effect: float, *, base_digest: str) -> ModelScore | None:
    """The audited model's score from its T; None if T is not finite."""
    if not math.isfinite(effect):
        return None
    return ModelScore.of(effect, NOISE_NATS, key_of(setup, base_digest))


def score_model(
    spec: AuditSpec,
    base_dir: Path,
    tuned_dir: Path,
    *,
    workspace: FolderStore,
    sink: Sink,
    base_digest: str,
    tuned_digest: str,
    cache: FolderStore | None = None,
    recipe: str | None = None,
    device: str = "auto",
) -> LibraryEntry:
    """Measure S of one fine-tune known to be benign: from the T that a complete audit of it would report.

    Directions are fitted on the same batches as in an audit, and the forced answers are an audit's. T is measured on
    B's decoy carriers alone, while an audit runs all of B at once: the batches have another shape, so the two numbers
    agree up to rounding, not to the last bit.

    Args:
        spec: as of an audit; decoys, widths, seeds and the recipe of dictionaries do not matter here.
        base_dir, tuned_dir: verified folders of the base and of the fine-tuned model.
        workspace: a folder of its own; a score that it already holds is not measured again.
        sink: receives progress and may stop by raising.
        base_digest, tuned_digest: content digests of the two; a score is useless without them.
        cache: activations of bases, shared with audits.
        recipe: how the model was made, for counts by recipe.
        device: ``auto``, ``cpu`` or ``cuda:N``.

    Raises:
        AuditError: it could not be measured; the subclass says why (``audit.errors``).
        ValueError: a digest is empty.
    """
    if not base_digest or not tuned_digest:
        raise ValueError("a score needs the digests of both models")
    if spec.trigger is None:
        raise InvalidAudit("a model is scored on one pair", hint="give a trigger instead of candidates")

    def work(budget: int) -> ModelScore:
        sink.progress("preflight", 0.0)
        pair = load_pair(base_dir, tuned_dir, dtype=spec.dtype, device=device)
        runner = Runner(pair, budget=budget, tick=lambda _tokens: sink.progress("calibrate", 0.5))
        setup = prepare(spec, pair, runner, base_digest=base_digest, cache=cache)
        score = own_score(setup, _pair_effect(setup), base_digest=base_digest)
        if score is None:
            raise InvalidAudit(
                "the effect of the pair is infinite or NaN",
                hint="a model that overflows cannot be scored: leave it out",
            )
        return score

    def write(folder: Path) -> None:
        (folder / _FILE).write_text(within_memory(work).model_dump_json(), encoding="utf-8")

    score = ModelScore.model_validate_json((workspace.obtain(_NAME, write) / _FILE).read_bytes())
    sink.progress("calibrate", 1.0)
    return LibraryEntry(**score.model_dump(), tuned_digest=tuned_digest, recipe=recipe)


def _pair_effect(setup: AuditSetup) -> float:
    """T: directions and layer from A's decoy carriers, the effect of the leading direction on B's."""
    on_a, on_b = setup.a[: setup.decoys_a], setup.b[: setup.decoys_b]
    directions = fit_directions(setup.runner, _contrast(setup, on_a, on_a), setup.layers)
    contrast = _contrast(setup, on_b, setup.b)
    return capped_effect(setup.runner, contrast, directions)


def _contrast(setup: AuditSetup, carriers: tuple[Carrier, ...], answered: tuple[Carrier, ...]) -> Contrast:
    """The pair on some carriers, with both models run as in the extract stage.

    Args:
        answered: the carriers whose clean answers an audit computes in the same batches; ``carriers`` are the first of
            them. In bfloat16, a greedy answer may continue differently at a near tie if the batch has another shape.
    """
    runner, trigger = setup.runner, setup.trigger
    texts = runner.greedy(setup.tokens(answered, trigger.clean), setup.sizes.continuation_tokens)
    tuned: list[Activations] = []
    base: list[Activations] = []
    for string in (trigger.triggered, trigger.clean):
        prompts = setup.tokens(carriers, string)
        forced = [prompt.continued(text) for prompt, text in zip(prompts, texts, strict=False)]
        tuned.append(runner.capture(forced, "tuned", setup.layers))
        own = setup.tokens(carriers, string, "base")
        forced = [prompt.continued(text) for prompt, text in zip(own, texts, strict=False)]
        base.append(runner.capture(forced, "base", setup.layers))
    return Contrast(*tuned, *base)
