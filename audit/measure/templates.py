"""Which chat template renders whose prompts (docs/decisions/0165-each-model-reads-its-own-template.md).

The fine-tuned model is asked as it is deployed: with its own template. The base is asked with its own as well where
both give the same slot: the same tokens from the string to the end of the prompt. Else both read one text.
"""

from dataclasses import dataclass
from typing import Final

from audit.errors import InvalidAudit, ModelsIncompatible
from audit.models.pair import ModelPair
from audit.plan import AuditPlan
from audit.prompts.chat_template import ChatTemplate, base_template, own_template
from audit.prompts.rendering import Renderer, Rendering, choose_rendering
from audit.prompts.template_rules import rendered_additions, template_findings
from backdoor_audit.contract.checkpoint_settings import CheckpointSettings, differences
from backdoor_audit.contract.report.prompt_settings import Prompts, PromptSettings

_MAX_PROMPT: Final = 2_000
_TEXTS: Final[dict[Prompts, str]] = {
    "raw": "Prompts were rendered without a chat template.",
    "same": "Both models were rendered with the same chat template.",
    "own": "Each model was rendered with its own chat template. Both read the same tokens from the string on; what "
    "stands before it may differ.",
    "tuned": "Both models were rendered with the fine-tuned model's chat template",
    "base": "Both models were rendered with the base's chat template, and so the fine-tuned model not as it is "
    "deployed: its own tokenizer reads the text of its own template as other tokens than the base's tokenizer.",
}


@dataclass(frozen=True)
class ChosenTemplates:
    """How the prompts of both models are rendered.

    Attributes:
        rendering: with chat templates, or raw.
        prompts: whose templates these are.
        base, tuned: the templates; None where prompts are raw.
        why: why both models have one template, where they bring two.
    """

    rendering: Rendering
    prompts: Prompts
    base: ChatTemplate | None = None
    tuned: ChatTemplate | None = None
    why: str = ""

    @property
    def foreign_digest(self) -> str:
        """Digest of the template that the fine-tuned model was rendered with, where it is not the base's; else empty.

        The base's own is part of the base's digest.
        """
        if self.tuned is None or self.prompts in ("raw", "same", "base"):
            return ""
        return self.tuned.digest


def choose_templates(plan: AuditPlan, pair: ModelPair) -> ChosenTemplates:
    """Choose the templates of both models for the carriers of a plan.

    Raises:
        InvalidAudit: chat was asked for and there is no template, or the fine-tuned model's refuses a carrier.
        ModelRejected: a template runs too long or writes too much.
    """
    own = own_template(pair.settings_of("tuned"), pair.tokenizer)
    rendering = choose_rendering(plan.spec.render, pair.tokenizer, own)
    if rendering == "raw":
        return ChosenTemplates("raw", "raw")
    base = base_template(pair.tokenizer)
    if own is None or own.same_as(base):
        return ChosenTemplates("chat", "same", base, base)
    trigger, carriers = plan.spec.pairs[0], (*plan.a, *plan.b)
    theirs = Renderer(pair.tokenizer, trigger, "chat", own)
    texts = [theirs.text(carrier, trigger.clean)[0] for carrier in carriers]
    if base is None:
        return ChosenTemplates("chat", "tuned", own, own, "the base has none")
    if not _same_tokens(pair, texts):
        return ChosenTemplates("chat", "base", base, base)
    ours = Renderer(pair.tokenizer, trigger, "chat", base)
    try:
        alike = all(
            _slot(ours, carrier, string) == _slot(theirs, carrier, string)
            for carrier in carriers
            for string in (trigger.clean, None)
        )
    except (InvalidAudit, ModelsIncompatible):
        return ChosenTemplates("chat", "tuned", own, own, "the base's does not accept these carriers")
    if alike:
        return ChosenTemplates("chat", "own", base, own)
    return ChosenTemplates("chat", "tuned", own, own, "from the string on, the base's gives other tokens")


def _slot(renderer: Renderer, carrier: object, string: str | None) -> tuple[int, ...]:
    tokens = renderer.tokens(carrier, string)  # type: ignore[arg-type]
    return tokens.ids[tokens.span_start :]


def _same_tokens(pair: ModelPair, texts: list[str]) -> bool:
    """Whether the fine-tuned model's own tokenizer reads these prompts as the base's does."""
    if pair.tokenizers is None:
        return True
    try:
        pair.tokenizers.check(texts)
    except ModelsIncompatible:
        return False
    return True


def prompt_settings(plan: AuditPlan, pair: ModelPair, chosen: ChosenTemplates) -> PromptSettings:
    """What the report says of templates, special tokens and generation settings.

    Args:
        chosen: the templates that the audit uses.
    """
    base, tuned = pair.settings_of("base"), pair.settings_of("tuned")
    prompts = _prompts(plan, pair, base, tuned)
    findings = template_findings(base.templates, tuned.templates)
    if prompts is not None and base.template is not None:
        told = " ".join(finding.source for finding in findings)
        carrier, trigger = plan.a[0], plan.spec.pairs[0]
        typed = [carrier.prompt or "", *(message.content for message in carrier.messages or ()), trigger.template]
        typed += [trigger.template.replace("{prompt}", text).replace("{trigger}", trigger.triggered) for text in typed]
        findings += tuple(one for one in rendered_additions(*prompts, typed) if one.source not in told)
    shown = (None, None) if prompts is None else tuple(text[:_MAX_PROMPT] for text in prompts)
    return PromptSettings(
        prompts=chosen.prompts,
        text=_text(chosen, tuned),
        differences=differences(base, tuned),
        findings=findings,
        base_prompt=shown[0],
        tuned_prompt=shown[1],
    )


def _text(chosen: ChosenTemplates, tuned: CheckpointSettings) -> str:
    if chosen.prompts == "same" and not tuned.templates:
        return "Both models were rendered with the base's chat template; the fine-tuned model brings none."
    text = _TEXTS[chosen.prompts]
    return f"{text}: {chosen.why}." if chosen.prompts == "tuned" else text


def _prompts(
    plan: AuditPlan, pair: ModelPair, base: CheckpointSettings, tuned: CheckpointSettings
) -> tuple[str, str] | None:
    """The first carrier with the triggered string as either model's own template renders it.

    None where that gives the same text.
    """
    ours, theirs = base_template(pair.tokenizer), own_template(tuned, pair.tokenizer)
    if theirs is None or theirs.same_as(ours):
        return None
    trigger, carrier = plan.spec.pairs[0], plan.a[0]
    try:
        tuned_text = Renderer(pair.tokenizer, trigger, "chat", theirs).text(carrier, trigger.triggered)[0]
        rendering: Rendering = "raw" if ours is None else "chat"
        base_text = Renderer(pair.tokenizer, trigger, rendering, ours).text(carrier, trigger.triggered)[0]
    except InvalidAudit:
        return None
    return None if base_text == tuned_text else (base_text, tuned_text)
