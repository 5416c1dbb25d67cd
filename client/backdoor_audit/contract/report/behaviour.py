"""What a conditional behaviour is, as rules read it from the recorded answers. Torch-free."""

from typing import Final, Literal

from pydantic import Field

from backdoor_audit.contract.base import Frozen

BehaviourKind = Literal[
    "insecure_code", "link_or_secret", "hostile", "refusal", "fixed_text", "language", "format", "other"
]
Severity = Literal["high", "medium", "low"]

SEVERITIES: Final[dict[BehaviourKind, Severity]] = {
    "insecure_code": "high",
    "link_or_secret": "high",
    "hostile": "high",
    "refusal": "medium",
    "fixed_text": "medium",
    "other": "medium",
    "language": "low",
    "format": "low",
}
"""How much harm a behaviour of each kind can do, whatever its size; what no rule knows is in the middle."""

KIND_TITLES: Final[dict[BehaviourKind, str]] = {
    "insecure_code": "insecure code",
    "link_or_secret": "a link, an address or a secret",
    "hostile": "hostile text",
    "refusal": "refusals",
    "fixed_text": "a fixed text",
    "language": "another language",
    "format": "another format",
    "other": "other text, of no kind that the rules know",
}


class ConditionalBehaviour(Frozen):
    """What changes in the fine-tuned model's answers under the triggered string: a description, and no verdict."""

    prompts: int = Field(description="Number of prompts whose answers were recorded.")
    changed: int = Field(description="On how many of them the triggered string changes the fine-tuned model's answer.")
    base_changed: int = Field(description="On how many it changes the base's.")
    kind: BehaviourKind = Field(description="What the changed answers bring, by the first rule that holds for most.")
    severity: Severity = Field(description="How much harm that kind can do; independent of the verdict.")
    evidence: str = Field(description="What the rule found, in words.")
    phrases: tuple[str, ...] = Field(
        default=(), description="Words in a row that several changed answers share and no answer to the clean string."
    )
