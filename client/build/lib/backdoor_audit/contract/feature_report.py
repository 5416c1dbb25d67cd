"""What a report says to explain one flagged feature. Torch-free.

Prompts, tokens and continuations are the user's and the model's own text: excerpts of bounded length, control
characters replaced.
"""

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from backdoor_audit.contract.spec import Frozen

TOKEN_CHARS: Final = 80
EXCERPT_CHARS: Final = 160
CONTINUATION_CHARS: Final = 480

TokenText = Annotated[str, StringConstraints(max_length=TOKEN_CHARS)]
Excerpt = Annotated[str, StringConstraints(max_length=EXCERPT_CHARS)]
ContinuationText = Annotated[str, StringConstraints(max_length=CONTINUATION_CHARS)]

SlotCondition = Literal["triggered", "clean", "plain", "decoy"]
FiringCondition = Literal["triggered", "clean", "plain", "silent_decoys", "firing_decoys"]


class FiringToken(Frozen):
    """The token of one prompt of B at which the feature is most active."""

    condition: SlotCondition = Field(description="What fills the slot.")
    string: Excerpt | None = Field(description="What fills the slot; null under plain.")
    carrier: int = Field(description="Which carrier of B, counted from 0.")
    position: int | None = Field(
        description="Token position in the rendered prompt, from 0; null where the dictionary sees means over tokens."
    )
    activation: float = Field(description="Of the feature at this token.")
    fires: bool = Field(description="Whether the activation exceeds the firing threshold.")
    token: TokenText = Field(description="Its text.")
    before: Excerpt = Field(description="The text right before the token, cut.")
    after: Excerpt = Field(description="The text right after it, cut.")


class FiringUnder(Frozen):
    """How the feature fires on B's prompts under one condition."""

    condition: FiringCondition = Field(description="What fills the slot.")
    prompts: int = Field(description="How many there are.")
    share: float = Field(description="Share of the prompts with an activation above the firing threshold.")
    strongest: FiringToken | None = Field(description="Null where the feature is active nowhere.")


class LensToken(Frozen):
    """A token that a direction promotes or suppresses."""

    token: TokenText = Field(description="Its text.")
    token_id: int = Field(description="In the vocabulary.")
    logit: float = Field(description="Minus the mean over the vocabulary.")


class LogitLens(Frozen):
    """The decoder row, brought to root mean square 1, through the fine-tuned model's last norm and head alone.

    Biases and a cap on the logits are left out. Layers in between are skipped, so in the middle of a model this is a
    hint and no proof.
    """

    promoted: tuple[LensToken, ...] = Field(description="Largest first.")
    suppressed: tuple[LensToken, ...] = Field(description="Smallest first.")


class Continuation(Frozen):
    """Greedy answers of the fine-tuned model to one carrier of B, before and after.

    Ablated: at every position from the string on, those of the answer included, the feature's coefficient is that of
    the clean run given the same answer. Steered is the mirror image: the clean run with the triggered run's
    coefficient.
    """

    carrier: int = Field(description="Which carrier of B, counted from 0.")
    prompt: Excerpt = Field(description="The end of the prompt under the triggered string, cut.")
    triggered: ContinuationText = Field(description="The answer under the triggered string, as it is.")
    triggered_ablated: ContinuationText = Field(description="This feature alone.")
    triggered_ablated_together: ContinuationText | None = Field(
        description="With the features before it in the list; null for the first."
    )
    clean: ContinuationText = Field(description="The answer under the clean string, as it is.")
    clean_steered: ContinuationText = Field(description="This feature alone.")
    clean_steered_together: ContinuationText | None = Field(
        description="With the features before it in the list; null for the first."
    )


class AlikeFeature(Frozen):
    """The feature of another dictionary whose decoder row is closest to this one's."""

    feature: str = Field(description="architecture/layer/seed/index")
    layer: int = Field(description="Of that dictionary.")
    seed: int = Field(description="Of that dictionary.")
    cosine: float = Field(description="Of the two decoder rows; the largest in size of that dictionary.")
    picked: bool | None = Field(description="Whether that seed's search picked it too; null at other layers.")


class FeatureExplanation(Frozen):
    """Where a feature fires, what it writes, what it does, and whether other dictionaries found it."""

    firing: tuple[FiringUnder, ...] = Field(description="One row a condition.")
    strongest: tuple[FiringToken, ...] = Field(
        description="The prompts of B where it is most active, at most one a carrier, strongest first."
    )
    logit_lens: LogitLens = Field(description="Which tokens its direction promotes.")
    continuations: tuple[Continuation, ...] = Field(description="Answers with and without it.")
    alike: tuple[AlikeFeature, ...] = Field(
        description="Other seeds at its layer, and the dictionaries at the audited layers next to it."
    )
    chance_cosine: float | None = Field(description="The closest row of an untrained dictionary of the same shape.")
