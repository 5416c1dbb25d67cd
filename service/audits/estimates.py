"""What an audit would take, without filing it: looked up and counted, never guessed.

The models are verified by their headers and not loaded; prompts are tokenised with the base's ``tokenizer.json``. A
checkpoint's chat template is its author's program and is run in the worker's sandbox alone, so here prompts are counted
without it.
"""

import json
import random
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, Final

from tokenizers import Tokenizer

from audit.errors import InvalidAudit
from audit.models.depths import auto_layers
from audit.plan import AuditPlan, plan_audit
from audit.prompts.rendering import Renderer
from backdoor_audit.contract.spec import AuditSpec
from jobs.ledger import Ledger
from models_store.store import CheckpointHeaders, ModelsStore
from service.audits.schemas import Estimate
from service.errors import ErrorItem, InvalidRequest

_SAMPLE: Final = 64
_EARLIER: Final = 50
_GB: Final = 1e9


class _BareTokenizer:
    """A ``tokenizer.json`` with the little of transformers' interface that rendering uses; it has no chat template."""

    chat_template = None

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def __call__(self, text: str, *, add_special_tokens: bool, **_: Any) -> dict[str, Any]:
        encoded = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
        return {"input_ids": encoded.ids, "offset_mapping": encoded.offsets}

    def get_vocab(self) -> dict[str, int]:
        """Pieces and their ids."""
        vocabulary: dict[str, int] = self._tokenizer.get_vocab()
        return vocabulary


@dataclass(frozen=True)
class _Prompts:
    """Tokens of a prompt on average, and the decoys of the first pair."""

    tokens: float
    decoys: tuple[str, ...]


def estimate(models: ModelsStore, ledger: Ledger, owner: str, spec: AuditSpec) -> Estimate:
    """Look both models up and count.

    Raises:
        models_store.errors.StoreError: a model is not there, is refused, or does not fit the other.
        InvalidRequest: the spec cannot be carried out: too few carriers, nothing that a decoy could be.
    """
    base, tuned = models.headers(spec.base_model), models.headers(spec.fine_tuned)
    models.check_fit(base, tuned)
    try:
        plan = plan_audit(spec)
        prompts = _prompts(plan, base)
    except InvalidAudit as error:
        raise InvalidRequest(errors=[ErrorItem("body", "#", error.message)]) from error
    sequences = plan.sequences()
    tokens = int(sequences * (prompts.tokens + plan.sizes.continuation_tokens))
    layers = len(auto_layers(base.blocks)) if isinstance(spec.layers, str) else len(spec.layers)
    activations = 2 * tokens * base.width * layers * (4 if spec.dtype == "float32" else 2)
    seconds = _seconds(ledger, owner, spec)
    return Estimate(
        spec_digest=spec.digest(),
        base_digest=base.digest,
        tuned_digest=tuned.digest,
        sequences=sequences,
        tokens=tokens,
        seconds=seconds,
        disk_gb=activations / _GB,
        weights_gb=(base.checkpoint.size_bytes + tuned.checkpoint.size_bytes) / _GB,
        decoys=prompts.decoys,
        not_given=_not_given(spec, base, tuned, seconds, len(spec.pairs)),
    )


def _prompts(plan: AuditPlan, base: CheckpointHeaders) -> _Prompts:
    tokenizer = _BareTokenizer(Tokenizer.from_file(str(base.checkpoint.path / "tokenizer.json")))
    trigger = plan.spec.pairs[0]
    renderer = Renderer(tokenizer, trigger, "raw")
    carriers = [*plan.a, *plan.b]
    sample = random.Random(plan.spec.seed).sample(carriers, min(_SAMPLE, len(carriers)))
    mean = fmean(len(renderer.tokens(carrier, trigger.triggered)) for carrier in sample)
    length = len(renderer.tokens(plan.a[0], trigger.triggered))
    decoys = plan.decoys(tokenizer, lambda string: len(renderer.tokens(plan.a[0], string)) == length)
    return _Prompts(mean, decoys.strings)


def _seconds(ledger: Ledger, owner: str, spec: AuditSpec) -> float | None:
    """Median of what audits of the same base with the same sizes took here; None where there was none."""
    found = ledger.list(owner=owner, status="succeeded", page_size=_EARLIER).audits
    took = [
        (record.finished_at - record.started_at).total_seconds()
        for record in found
        if record.started_at is not None
        and record.finished_at is not None
        and record.spec.base_model == spec.base_model
        and record.spec.sizes() == spec.sizes()
        and record.spec.architectures == spec.architectures
        and record.spec.layers == spec.layers
        and len(record.spec.pairs) == len(spec.pairs)
    ]
    return median(took) if took else None


def _not_given(
    spec: AuditSpec, base: CheckpointHeaders, tuned: CheckpointHeaders, seconds: float | None, pairs: int
) -> tuple[str, ...]:
    found = []
    if seconds is None:
        found.append("seconds: no audit of this base with these sizes has ended here yet")
    if spec.render == "chat" or (spec.render == "auto" and _has_template(base)):
        found.append(
            "the chat template: it is run in the sandbox alone, so the tokens that it adds are not counted, and a "
            "decoy whose length it changes may be left out"
        )
    if pairs > 1:
        found.append("decoys of the other pairs: those listed are the first one's")
    for name, seen in (("base_digest", base), ("tuned_digest", tuned)):
        if seen.digest is None:
            found.append(f"{name}: the model has not been used here yet, and reading it may take long")
    return tuple(found)


def _has_template(base: CheckpointHeaders) -> bool:
    folder = base.checkpoint.path
    if (folder / "chat_template.jinja").is_file():
        return True
    try:
        return bool(json.loads((folder / "tokenizer_config.json").read_bytes()).get("chat_template"))
    except (OSError, ValueError, AttributeError):
        return False
