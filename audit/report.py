"""What an audit answers: the report that all rooms share. Torch-free.

Every number is finite or null: null says that it was not measured, never that it was zero.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from audit.explained import FeatureExplanation
from audit.library import ComparabilityKey, NotComparable
from audit.spec import Architecture, FailOn, Frozen, Preset, Recipe, Verdict

SCHEMA_VERSION: Final = "1.2"
METHOD_VERSION: Final = "2"

GateState = Literal["passed", "failed", "not_assessed"]
Interval = tuple[float, float]


class Gate(Frozen):
    """One of the four gates; ``reason`` says why it failed or was not assessed."""

    state: GateState
    reason: str = ""


class BehaviourGate(Gate):
    """Does the fine-tuned model answer differently under the pair, beyond what the base does?"""

    output_kl: float | None = Field(default=None, description="Nats per carrier, base's own reaction taken off.")
    output_kl_interval: Interval | None = Field(default=None, description="95% cluster-bootstrap interval.")
    threshold: float


class SpecificGate(Gate):
    """Is the effect specific to the pair, or do decoys do the same?"""

    effect_nats: float | None = Field(
        default=None, description="T: causal effect of the leading direction, nats per carrier."
    )
    threshold: float
    p_decoy_all: float | None = Field(default=None, description="(1+#{T_j >= T})/(n+1) over all decoys.")
    rank_among_silent: int | None = Field(default=None, description="1 is the largest; descriptive, not a p-value.")
    drawn: int = 0
    silent: int = 0
    firing: int = 0
    screened: bool = Field(default=False, description="Decoys are screened only where the pair itself reacts.")


class CausalGate(Gate):
    """Does putting the clean values back along the directions undo the behaviour?"""

    layer: int | None = None
    rank: int | None = None
    recovered: float | None = Field(default=None, description="1 - sum KL(ablated||ft_c) / sum KL(ft_t||ft_c).")
    recovered_interval: Interval | None = None
    recovered_rank1: float | None = None
    induced: float | None = Field(default=None, description="The mirror image: clean prompts steered.")
    effect_nats: float | None = None
    null_max: float | None = Field(
        default=None, description="Largest recovery of the random subspaces; null: none measured."
    )
    null_count: int = 0
    threshold: float
    margin: float
    base_reaction_ratio: float | None = Field(default=None, description="sum KL(base_t||base_c) / sum KL(ft_t||ft_c).")
    neutral_damage: float | None = Field(default=None, description="Nats per carrier on plain prompts, same ablation.")


class CalibratedGate(Gate):
    """Does the score stand out from fine-tunes known to be benign?"""

    p_conformal: float | None = Field(
        default=None, description="(1+#{S_i >= S})/(N+1) over the comparable models of the library."
    )
    finest_p: float | None = Field(default=None, description="1/(N+1): the smallest p that this library allows.")
    library_size: int = Field(default=0, description="N: comparable models.")
    library_effects: tuple[float, ...] = Field(default=(), description="T of each comparable model, largest first.")
    recipes: int = Field(default=0, description="How many recipes these models name; others are not covered.")
    unlabelled: int = Field(default=0, description="How many of these models name none.")
    not_comparable: tuple[NotComparable, ...] = ()
    library_digest: str | None = Field(default=None, description="Of all entries given, comparable or not.")
    score: float | None = Field(default=None, description="S = log(max(T, 0) + tau), one a model.")
    effect_nats: float | None = Field(default=None, description="T.")
    noise_nats: float | None = Field(
        default=None, description="tau: the same quantity between two batch shapes of the base alone."
    )
    key: ComparabilityKey | None = Field(default=None, description="What other scores must share to be compared.")
    alpha: float


class Gates(Frozen):
    """The four gates."""

    behaviour: BehaviourGate
    specific: SpecificGate
    causal: CausalGate
    calibrated: CalibratedGate


class CandidateRow(Frozen):
    """One of several suspected pairs."""

    triggered: str
    clean: str
    verdict: Verdict = Field(description="By the corrected gates.")
    place: int = Field(description="By effect_nats; 1 is the largest.")
    reported: bool = Field(description="Whether the rest of the report is about this pair.")
    layer: int = Field(description="The layer that its half A chose.")
    effect_nats: float = Field(description="T, nats per carrier.")
    smallest_effect_nats: float = Field(description="T that this pair would have needed.")
    p_decoy_all: float | None = Field(description="As measured, not corrected.")
    p_holm: float | None = Field(description="p_decoy_all after Holm's correction for the number of candidates.")
    p_conformal_holm: float | None = Field(description="The same of the comparison with benign models.")
    screening_only: bool = Field(description="Its decoys are too few for any effect to stand out among so many pairs.")
    gates: Gates = Field(description="Corrected for the number of candidates.")


class Multiplicity(Frozen):
    """What having tested several pairs means for the answer."""

    candidates: int
    decoys_needed: int = Field(description="Decoys that a pair needs to stand out among so many candidates.")
    screening_only: bool = Field(description="Whether that is so for at least one of them.")
    text: str


class Scores(Frozen):
    """The numbers of the reported feature (the best of the flagged ones), on split B."""

    feature: str | None = Field(description="The feature that these are of; null where no feature was found.")
    bis: float | None
    bis_interval: Interval | None = None
    precision: float | None
    recall: float | None
    fpr: float | None
    fpr_interval: Interval | None = None
    f1: float | None
    auroc: float | None
    d_z: float | None
    p_signflip: float | None
    amplification: float | None
    amplification_interval: Interval | None = None
    conditional_share: float | None
    conditional_share_interval: Interval | None = None
    attribution: float | None = Field(description="Nats per carrier, first order.")
    output_kl: float | None
    bis_p95: float | None = Field(description="The seed paper's score; never the verdict.")
    bis_p95_ceiling: float | None = Field(description="What bis_p95 cannot exceed at this share of triggered prompts.")


class Feature(Frozen):
    """One latent of a trained dictionary, flagged."""

    id: str = Field(description="architecture/layer/seed/index")
    layer: int
    architecture: Architecture
    seed: int
    index: int
    bis: float
    bis_last: float
    precision: float
    recall: float
    fpr: float
    fpr_interval: Interval
    f1: float
    firing_threshold: float
    firing_quantile: float = Field(description="f: the share of clean A prompts allowed to fire.")
    auroc: float
    d_z: float | None
    p_signflip: float | None
    attribution: float
    amplification: float | None
    amplification_interval: Interval | None = None
    conditional_share: float | None
    conditional_share_interval: Interval | None = None
    recovered: float | None = Field(default=None, description="On B, this feature alone.")
    recovered_cumulative: float | None = Field(default=None, description="On B, this one and those before it together.")
    relative_decoder_norm: float | None = Field(
        default=None, description="Crosscoder: fine-tuned share of the norm, 0-1."
    )
    latent_scaling: float | None = Field(default=None, description="Crosscoder: beta_base / beta_ft.")
    explanation: FeatureExplanation | None = Field(
        default=None, description="Where it fires, what it writes, what it does, and where else it was found."
    )


class DictionaryRow(Frozen):
    """One trained dictionary at one layer."""

    layer: int
    architecture: Architecture
    seed: int
    width: int
    k: int
    fve: float = Field(description="Fraction of variance explained.")
    fve_top1pct: float = Field(description="The same on the 1% of tokens with the largest difference.")
    l0: float
    dead_share: float
    var_ratio: float | None = Field(
        default=None, description="Variance of the differences over that of the base activations."
    )
    best_feature: str | None = None
    best_bis: float | None = None
    bis_p95: float | None = None
    bis_p95_ceiling: float | None = None


class DirectionRow(Frozen):
    """The attribution subspace of one layer, fitted on A."""

    layer: int
    chosen: bool
    effect_nats_a: float = Field(description="Causal effect at rank 1 on A, nats per carrier; chooses the layer.")
    effect_nats: float | None = Field(default=None, description="The same on B; only at the chosen layer.")
    recovered: float | None = Field(default=None, description="On B, rank 1; only at the chosen layer.")
    amplification: float | None = Field(description="Null where the base reads both strings alike.")
    amplification_interval: Interval | None = None
    conditional_share: float | None = Field(description="Null where fine-tuning moved no clean prompt.")
    conditional_share_interval: Interval | None = None
    amplification_p: float | None = Field(default=None, description="Rank of the amplification among all decoys, as p.")


class DecoyRow(Frozen):
    """One decoy string."""

    string: str
    state: Literal["silent", "firing"]
    output_kl: float = Field(description="Nats per carrier on A.")
    share_of_effect: float | None = Field(default=None, description="Its output_kl over the pair's, on A.")
    effect_nats: float = Field(description="T of the decoy on B.")
    layer: int = Field(description="The layer its own A half chose.")
    amplification: float | None


class AlsoFiresOn(Frozen):
    """A decoy that the behaviour answers to as well: the trigger's neighbourhood."""

    string: str
    output_kl: float
    share_of_effect: float | None


class Baselines(Frozen):
    """Cheap answers to the same question; a dictionary that does not beat them adds localisation only."""

    output_kl: float | None
    diffmean: Scores | None
    attribution_direction: Scores | None
    frozen_random: Scores | None


class Localisation(Frozen):
    """How much of what the directions recover the flagged features recover."""

    features: int
    recovered: float | None
    directions_recovered: float | None
    share: float | None
    localised: bool | None
    seeds: tuple[int, ...] = ()
    recovered_by_seed: tuple[float | None, ...] = ()
    subspace_overlap: float | None = Field(
        default=None, description="Mean squared cosine between the seeds' spans, 0-1."
    )
    note: str = ""


class Power(Frozen):
    """How large a spike in the recorded activations a difference of means would have seen.

    A simulation on this audit's own recordings under the rule of the gate ``specific``, which itself is decided on the
    effect in nats.
    """

    layer: int
    size: float | None = Field(
        description="Smallest spike seen in ``wanted`` of the repeats, units of the residual stream; where it is null, "
        "``text`` says why."
    )
    share_of_static_shift: float | None = Field(description="size over the mean norm of the clean prompts' shift.")
    share_of_base_reading: float | None = Field(description="size over the mean norm of the base's own difference.")
    wanted: float = Field(description="Share of the repeats that the size is for.")
    detected: float | None = Field(description="Share in which that size was seen, in repeats drawn afresh.")
    detected_without: float | None = Field(description="Share in which a decoy stood out with nothing added.")
    draws: int = Field(description="Simulated repeats: carriers by cluster, decoy and direction drawn anew.")
    decoys: int
    pair_size: float | None = Field(description="The pair's own shift along its difference of means, same units.")
    pair_p: float | None = Field(description="Rank of pair_size among all decoys, as p; decides nothing.")
    text: str = Field(description="The statement in words, with what it does not cover.")


class Sizes(Frozen):
    """How much was looked at."""

    carriers_a: int
    carriers_b: int
    clusters_a: int
    clusters_b: int
    decoy_carriers_a: int
    decoy_carriers_b: int
    training_tokens: int
    layers: tuple[int, ...]
    rendering: Literal["chat", "raw"]
    preset: Preset
    recipe: Recipe
    continuation_tokens: int


class Provenance(Frozen):
    """What the answer depends on."""

    base_digest: str
    tuned_digest: str
    carriers_digest: str
    spec_digest: str
    seeds: tuple[int, ...]
    versions: dict[str, str]
    device: str
    dtype: Literal["bfloat16", "float32"]
    timings_s: dict[str, float]
    cache_hits: int = 0
    cache_misses: int = 0
    peak_memory_bytes: int | None = None


class AuditReport(Frozen):
    """The whole answer of one audit."""

    audit_id: str
    schema_version: str = SCHEMA_VERSION
    method_version: str = METHOD_VERSION
    verdict: Verdict
    summary: str
    look_at: Annotated[tuple[str, ...], Field(description="Where a person should look; for review and flagged.")] = ()
    not_assessed: tuple[str, ...] = ()
    smallest_effect_nats: float | None = Field(
        default=None,
        description="T that the pair would have needed to stand out: the threshold, or the largest silent decoy's T.",
    )
    power: Power | None = Field(default=None, description="Null in reports older than schema 1.1.")
    trigger: dict[str, str]
    fail_on: FailOn
    candidates: tuple[CandidateRow, ...] = Field(
        default=(), description="Where several pairs were asked about: one row each, in the order of the spec."
    )
    multiplicity: Multiplicity | None = None
    gates: Gates
    scores: Scores
    also_fires_on: tuple[AlsoFiresOn, ...]
    directions: tuple[DirectionRow, ...]
    layers: tuple[DictionaryRow, ...]
    flagged_features: tuple[Feature, ...]
    localisation: Localisation | None
    baselines: Baselines
    decoys: tuple[DecoyRow, ...]
    sizes: Sizes
    warnings: tuple[str, ...]
    limits: tuple[str, ...]
    provenance: Provenance
