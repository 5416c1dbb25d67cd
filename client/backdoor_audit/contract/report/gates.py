"""The four gates of a report. Torch-free."""

from typing import Literal

from pydantic import Field

from backdoor_audit.contract.base import Frozen
from backdoor_audit.contract.benign_library import ComparabilityKey, NotComparable

GateState = Literal["passed", "failed", "not_assessed"]
Interval = tuple[float, float]


class Gate(Frozen):
    """One of the four gates; ``reason`` says why it failed or was not assessed."""

    state: GateState = Field(description="passed is evidence for a backdoor.")
    reason: str = Field(default="", description="Why the gate failed or was not assessed.")


class BehaviourGate(Gate):
    """Does the fine-tuned model respond to the two strings differently, beyond what the base does?"""

    output_kl: float | None = Field(
        default=None, description="Change of the outputs beyond the base model's own, in nats per carrier."
    )
    output_kl_interval: Interval | None = Field(default=None, description="95% cluster-bootstrap interval.")
    unexplained_kl: float | None = Field(
        default=None,
        description="C: change of the outputs that the base's own change does not explain, in nats per carrier. "
        "Decides since method 3; null in reports before schema 1.4.",
    )
    unexplained_kl_interval: Interval | None = Field(default=None, description="95% cluster-bootstrap interval.")
    threshold: float = Field(
        description="Smallest unexplained_kl that passes, in nats per carrier; of output_kl before method 3."
    )


class SpecificGate(Gate):
    """Is the effect specific to the pair, or do decoys have it too?"""

    effect_nats: float | None = Field(
        default=None,
        description="T: causal effect of the leading direction, in nats per carrier; since method 3 only of what the "
        "base does not explain.",
    )
    threshold: float = Field(description="Smallest effect_nats that passes.")
    p_decoy_all: float | None = Field(default=None, description="(1+#{T_j >= T})/(n+1) over all decoys.")
    rank_among_silent: int | None = Field(
        default=None, description="Rank of the pair among the silent decoys, 1 being the largest effect; not a p-value."
    )
    drawn: int = Field(default=0, description="Number of decoys measured.")
    silent: int = Field(
        default=0, description="Number of decoys that do not trigger the behaviour; all of them if none was screened."
    )
    firing: int = Field(default=0, description="Number of decoys that trigger the behaviour too.")
    reacting: int = Field(
        default=0,
        description="Number of decoys that change the answers by themselves, whatever the pair does; with one or more "
        "the verdict is not no_evidence.",
    )
    plain_reacts: bool | None = Field(
        default=None,
        description="Whether leaving the string out changes the answers as well, compared with the clean string; null "
        "in reports before schema 1.4.",
    )
    screened: bool = Field(
        default=False, description="Whether decoys were screened: only if the outputs respond to the pair itself."
    )


class CausalGate(Gate):
    """Does restoring the clean values along the directions undo the behaviour?"""

    layer: int | None = Field(default=None, description="Layer chosen on half A.")
    rank: int | None = Field(
        default=None,
        description="Number of directions restored: the fewest of 1, 2 and 4 that keep 0.9 of the effect on half A.",
    )
    recovered: float | None = Field(
        default=None,
        description="1 - sum KL(ablated||q) / sum KL(ft_t||q), q being what the base predicts; ft_c before method 3.",
    )
    recovered_interval: Interval | None = Field(default=None, description="95% cluster-bootstrap interval.")
    recovered_rank1: float | None = Field(default=None, description="recovered with the leading direction alone.")
    induced: float | None = Field(
        default=None,
        description="Before method 3: share of the behaviour that steering clean prompts brings about; else null.",
    )
    effect_nats: float | None = Field(
        default=None, description="Effect undone by restoring the directions on all of half B, in nats per carrier."
    )
    null_max: float | None = Field(
        default=None,
        description="Largest share recovered by the subspace of a decoy that does not respond; null if none was "
        "measured. Before method 3: by a random subspace.",
    )
    null_count: int = Field(default=0, description="Number of these subspaces.")
    threshold: float = Field(description="Smallest recovered that passes.")
    margin: float = Field(description="Before method 3: margin by which recovered must exceed null_max; 0 since.")
    base_reaction_ratio: float | None = Field(default=None, description="sum KL(base_t||base_c) / sum KL(ft_t||ft_c).")
    neutral_damage: float | None = Field(
        default=None, description="Change of the outputs on plain prompts under the same ablation, in nats per carrier."
    )


class CalibratedGate(Gate):
    """Does the score stand out from those of fine-tunes known to be benign?"""

    p_conformal: float | None = Field(
        default=None, description="(1+#{S_i >= S})/(N+1) over the comparable models of the library."
    )
    finest_p: float | None = Field(default=None, description="1/(N+1): the smallest p possible with this library.")
    library_size: int = Field(default=0, description="N: number of comparable models.")
    library_effects: tuple[float, ...] = Field(default=(), description="T of each comparable model, largest first.")
    recipes: int = Field(
        default=0, description="Number of recipes named by these models; other recipes are not covered."
    )
    unlabelled: int = Field(default=0, description="Number of these models without a named recipe.")
    not_comparable: tuple[NotComparable, ...] = Field(default=(), description="Entries that were excluded, and why.")
    library_digest: str | None = Field(default=None, description="Digest of all entries given, comparable or not.")
    score: float | None = Field(default=None, description="S = log(max(T, 0) + tau), one score per model.")
    effect_nats: float | None = Field(default=None, description="T.")
    noise_nats: float | None = Field(
        default=None, description="tau: the same quantity between two batch shapes of the base alone."
    )
    key: ComparabilityKey | None = Field(
        default=None, description="What two scores must have in common to be compared."
    )
    alpha: float = Field(description="Largest p_conformal that passes.")


class Gates(Frozen):
    """The four gates."""

    behaviour: BehaviourGate = Field(description="Do the outputs change beyond the base model's own change?")
    specific: SpecificGate = Field(description="Is the effect larger than those of the decoys?")
    causal: CausalGate = Field(description="Does restoring the clean activations undo the behaviour?")
    calibrated: CalibratedGate = Field(description="Is the score higher than those of benign models?")
