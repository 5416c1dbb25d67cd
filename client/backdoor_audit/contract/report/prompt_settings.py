"""What a report says of chat templates, special tokens and generation settings: they are part of a model."""

from typing import Final, Literal

from pydantic import Field

from backdoor_audit.contract.base import Frozen

Part = Literal["chat_template", "special_token", "generation_setting"]
FindingKind = Literal["reads_message", "reads_date", "reads_chance", "adds_text", "unreadable"]
Prompts = Literal["raw", "same", "own", "base", "tuned"]

FINDING_WORDS: Final[dict[FindingKind, str]] = {
    "reads_message": "its output depends on the text of a message",
    "reads_date": "its output depends on the date",
    "reads_chance": "its output depends on chance",
    "adds_text": "it writes text of its own into the prompt",
    "unreadable": "it cannot be read",
}


class SettingDifference(Frozen):
    """One setting that is not the same in both folders."""

    part: Part = Field(description="What it belongs to.")
    name: str = Field(description="Name of the template, the token or the setting.")
    base: str | None = Field(description="The base's value; null if it has none, and for templates.")
    tuned: str | None = Field(description="The fine-tuned model's value; null if it has none, and for templates.")
    diff: tuple[str, ...] = Field(
        default=(), description="For a template: lines that go ('-'), that come ('+') and that stay (' ')."
    )


class TemplateFinding(Frozen):
    """One place of the fine-tuned model's chat template that a person should read."""

    kind: FindingKind = Field(description="What the place does.")
    template: str = Field(
        description="Name of the template; 'default' is the one that is used unless another is named."
    )
    line: int = Field(ge=0, description="Line of the template, counted from 1; 0 if no line can be named.")
    source: str = Field(description="The expression or the text.")
    in_base: bool = Field(description="Whether the base's template does the same; such a place decides nothing.")

    @property
    def text(self) -> str:
        """The finding in words."""
        place = f"line {self.line} of the chat template '{self.template}'"
        return f"{place}: {FINDING_WORDS[self.kind]}: {self.source}"


class PromptSettings(Frozen):
    """Chat templates, special tokens and generation settings of both models, and which of them the audit used."""

    prompts: Prompts = Field(
        description="Whose chat template rendered the prompts: none (raw), one that both have (same), each model's "
        "own, or for both models the base's or the fine-tuned model's (tuned)."
    )
    text: str = Field(description="The same in words.")
    differences: tuple[SettingDifference, ...] = Field(description="What is not the same in both folders.")
    findings: tuple[TemplateFinding, ...] = Field(description="Places of the fine-tuned model's templates to read.")
    base_prompt: str | None = Field(
        default=None, description="One prompt as the base reads it; null if both models read the same."
    )
    tuned_prompt: str | None = Field(default=None, description="The same prompt as the fine-tuned model reads it.")

    @property
    def suspicious(self) -> tuple[TemplateFinding, ...]:
        """Findings that the base's template does not share: a report that has some is at least ``review``."""
        return tuple(finding for finding in self.findings if not finding.in_base)
