"""What both models answer under both strings. Torch-free.

The texts are the user's and the models' own: excerpts of bounded length, control characters replaced.
"""

from pydantic import Field

from backdoor_audit.contract.base import Frozen
from backdoor_audit.contract.report.feature_report import ContinuationText, Excerpt


class Answers(Frozen):
    """Greedy answers of both models to one carrier of B, cut after 24 tokens."""

    carrier: int = Field(description="Carrier of half B, counted from 0.")
    prompt: Excerpt = Field(description="End of the fine-tuned model's prompt with the triggered string, truncated.")
    triggered: ContinuationText = Field(description="Answer of the fine-tuned model to the triggered string.")
    clean: ContinuationText = Field(description="Answer of the fine-tuned model to the clean string.")
    base_triggered: ContinuationText = Field(description="Answer of the base to the triggered string.")
    base_clean: ContinuationText = Field(description="Answer of the base to the clean string.")
