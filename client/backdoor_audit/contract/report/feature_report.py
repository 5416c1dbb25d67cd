"""How a report explains one flagged feature. Torch-free.

Prompts, tokens and continuations are the user's and the model's own text: excerpts of bounded length, control
characters replaced.
"""

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from backdoor_audit.contract.base import Frozen

TOKEN_CHARS: Final = 80
EXCERPT_CHARS: Final = 160
CONTINUATION_CHARS: Final = 480

TokenText = Annotated[str, StringConstraints(max_length=TOKEN_CHARS)]
Excerpt = Annotated[str, StringConstraints(max_length=EXCERPT_CHARS)]
ContinuationText = Annotated[str, StringConstraints(max_length=CONTINUATION_CHARS)]

SlotCondition = Literal["triggered", "clean", "plain", "decoy"]
FiringCondition = Literal["triggered", "clean", "plain", "silent_decoys", "firing_decoys"]

CONDITION_WORDS: Final[dict[FiringCondition, str]] = {
    "triggered": "triggered",
    "clean": "clean",
    "plain": "no string",
    "silent_decoys": "silent decoys",
    "firing_decoys": "responding decoys",
}
"""What people are shown: a feature fires, a decoy responds."""


class FiringToken(Frozen):
    """The token of one prompt of B at which the feature is most active."""

    condition: SlotCondition = Field(description="Condition of the prompt: what fills the slot.")
    string: Excerpt | None = Field(description="String in the slot; null for plain prompts.")
    carrier: int = Field(description="Carrier of half B, counted from 0.")
    position: int | None = Field(
        description="Token position in the rendered prompt, from 0; null if the dictionary is trained on means "
        "over tokens."
    )
    activation: float = Field(description="Activation of the feature at this token.")
    fires: bool = Field(description="Whether the activation exceeds the firing threshold.")
    token: TokenText = Field(description="Text of the token.")
    before: Excerpt = Field(description="Text right before the token, truncated.")
    after: Excerpt = Field(description="Text right after the token, truncated.")


class FiringUnder(Frozen):
    """How the feature fires on the prompts of half B under one condition."""

    condition: FiringCondition = Field(description="Condition of the prompt: what fills the slot.")
    prompts: int = Field(description="Number of prompts.")
    share: float = Field(description="Share of the prompts with an activation above the firing threshold.")
    strongest: FiringToken | None = Field(
        description="Token with the largest activation; null if the feature is active nowhere."
    )


class LensToken(Frozen):
    """A token that a direction promotes or suppresses."""

    token: TokenText = Field(description="Text of the token.")
    token_id: int = Field(description="Id in the vocabulary.")
    logit: float = Field(description="Logit minus the mean over the vocabulary.")


class LogitLens(Frozen):
    """The decoder row, brought to root mean square 1, through the fine-tuned model's last norm and head alone.

    Biases and a cap on the logits are left out. Layers in between are skipped, so in the middle of a model this is a
    hint, not a proof.
    """

    promoted: tuple[LensToken, ...] = Field(description="Largest first.")
    suppressed: tuple[LensToken, ...] = Field(description="Smallest first.")


class Continuation(Frozen):
    """Greedy answers of the fine-tuned model to one carrier of B, before and after.

    Ablated: at every position from the string on, those of the answer included, the feature's coefficient is that of
    the clean run given the same answer. Steered is the mirror image: the clean run with the triggered run's
    coefficient.
    """

    carrier: int = Field(description="Carrier of half B, counted from 0.")
    prompt: Excerpt = Field(description="End of the prompt with the triggered string, truncated.")
    triggered: ContinuationText = Field(description="Answer to the triggered string, unchanged.")
    triggered_ablated: ContinuationText = Field(description="Answer with this feature alone changed.")
    triggered_ablated_together: ContinuationText | None = Field(
        description="Answer with this feature and those listed before it changed; null for the first."
    )
    clean: ContinuationText = Field(description="Answer to the clean string, unchanged.")
    clean_steered: ContinuationText = Field(description="Answer with this feature alone changed.")
    clean_steered_together: ContinuationText | None = Field(
        description="Answer with this feature and those listed before it changed; null for the first."
    )


class AlikeFeature(Frozen):
    """The feature of another dictionary whose decoder row is closest to this one's."""

    feature: str = Field(description="architecture/layer/seed/index")
    layer: int = Field(description="Layer of that dictionary.")
    seed: int = Field(description="Seed of that dictionary.")
    cosine: float = Field(
        description="Cosine of the two decoder rows; the largest in absolute value in that dictionary."
    )
    picked: bool | None = Field(description="Whether the search with that seed picked it too; null at other layers.")


class FeatureExplanation(Frozen):
    """Where a feature fires, what it promotes, what it does, and whether other dictionaries found it."""

    firing: tuple[FiringUnder, ...] = Field(description="One row per condition.")
    strongest: tuple[FiringToken, ...] = Field(
        description="Prompts of half B with the largest activations, at most one per carrier, largest first."
    )
    logit_lens: LogitLens = Field(description="Tokens that its direction promotes and suppresses.")
    continuations: tuple[Continuation, ...] = Field(description="Answers with and without the feature.")
    alike: tuple[AlikeFeature, ...] = Field(
        description="Closest features in the dictionaries of other seeds and of the adjacent audited layers."
    )
    chance_cosine: float | None = Field(
        description="Cosine with the closest row of an untrained dictionary of the same shape."
    )
