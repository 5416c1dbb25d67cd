"""What an audit would cost, without submitting it.

The models are verified by their headers and not loaded. A ``tokenizer.json`` and a chat template are untrusted: the
library that reads the first is native code that a file can crash, and the second is a program. Both are opened only in
the worker's sandbox, so tokens are estimated here from the length of the text.
"""

from statistics import fmean
from typing import Final

from audit.models.depths import auto_layers
from audit.plan import AuditPlan, plan_audit
from audit.search.judged import planned_spec, strings_tried
from audit.search.sizes import contexts_of
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from backdoor_audit.contract.spec.carriers import Carrier
from models_store.checkpoint import CheckpointHeaders
from models_store.store import ModelsStore
from models_store.verification.pairs import tokenizer_note
from service.audits.checks import check_spec
from service.audits.durations import Durations
from service.audits.schemas import Estimate

_GB: Final = 1e9

BYTES_PER_TOKEN: Final = 3
"""English prose has about four bytes of UTF-8 per token, code about three: the estimate errs on the side of more
tokens."""


def estimate(models: ModelsStore, durations: Durations, owner: str, spec: AuditSpec) -> Estimate:
    """Look up both models and compute the estimate.

    Raises:
        UnknownModel, InvalidRequest, ModelRejected, ModelsIncompatible: as ``check_spec``.
        models_store.errors.StoreError: a model that only a worker could fetch is not on this machine.
    """
    check_spec(models, spec)
    base, tuned = models.headers(spec.base_model), models.headers(spec.fine_tuned)
    warnings = models.check_fit(base, tuned)
    plan = plan_audit(planned_spec(spec))
    sequences = plan.sequences()
    tokens = int(sequences * (_tokens_of_a_prompt(plan) + plan.sizes.continuation_tokens))
    layers = len(auto_layers(base.blocks)) if isinstance(spec.layers, str) else len(spec.layers)
    activations = 2 * tokens * base.width * layers * (4 if spec.dtype == "float32" else 2)
    seconds = durations.expected_s(owner, spec)
    return Estimate(
        spec_digest=spec.digest(),
        base_digest=base.digest,
        tuned_digest=tuned.digest,
        strings=None if spec.search is None else strings_tried(spec.search),
        sequences=sequences,
        tokens=tokens,
        seconds=seconds,
        disk_gb=activations / _GB,
        weights_gb=(base.checkpoint.size_bytes + tuned.checkpoint.size_bytes) / _GB,
        decoys=None if isinstance(spec.decoys, str) else plan.decoys(None, lambda _: True).strings,
        warnings=(*tuned.checkpoint.warnings, *warnings),
        not_given=_not_given(spec, base, tuned, seconds),
    )


def _tokens_of_a_prompt(plan: AuditPlan) -> float:
    """Estimate of the tokens of one prompt on average, from bytes of UTF-8; a chat template adds to them."""
    pair = plan.spec.pairs[0]
    # The template's two slots are replaced; a conversation takes the template in one of its messages.
    around = len(pair.template.replace("{trigger}", pair.triggered).replace("{prompt}", "").encode())
    return fmean(_bytes_of(carrier) + around for carrier in (*plan.a, *plan.b)) / BYTES_PER_TOKEN


def _bytes_of(carrier: Carrier) -> int:
    texts = [carrier.prompt or ""] if carrier.messages is None else [message.content for message in carrier.messages]
    return sum(len(text.encode()) for text in texts)


def _not_given(
    spec: AuditSpec, base: CheckpointHeaders, tuned: CheckpointHeaders, seconds: float | None
) -> tuple[str, ...]:
    found = [
        "exact tokens: the tokenizer and the chat template are opened only in the sandbox, so tokens are estimated "
        f"from the length of the prompts ({BYTES_PER_TOKEN} bytes per token), without what a chat template adds"
    ]
    if isinstance(spec.decoys, str):
        found.append("decoys: they are drawn with the tokenizer, which is opened only in the sandbox")
    else:
        found.append("which decoys are left out: those whose number of tokens is not the triggered string's")
    if spec.search is not None:
        found.append(
            f"tokens of the search: its strings are first tried in up to {len(contexts_of(spec.search))} places, and "
            "how many are followed up depends on what they do; prompts and tokens are those of the audit of one find"
        )
    if seconds is None:
        found.append("seconds: no audit of this base with these sizes has ended here yet")
    note = tokenizer_note(base.checkpoint, tuned.checkpoint)
    if note is not None:
        found.append(f"whether both models read the same tokens: {note}")
    for name, seen in (("base_digest", base), ("tuned_digest", tuned)):
        if seen.digest is None:
            found.append(f"{name}: the model has not been used here yet, and reading it may take long")
    return tuple(found)
