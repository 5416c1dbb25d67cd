"""What an audit answers: the report that all rooms share. Torch-free.

Every number is finite or null: null says that it was not measured, never that it was zero.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from backdoor_audit.contract.benign_library import ComparabilityKey, NotComparable
from backdoor_audit.contract.feature_report import FeatureExplanation
from backdoor_audit.contract.spec import Architecture, Frozen, Preset, Recipe
from backdoor_audit.contract.verdicts import FailOn, Verdict

SCHEMA_VERSION: Final = "1.3"
METHOD_VERSION: Final = "2"

GateState = Literal["passed", "failed", "not_assessed"]
Interval = tuple[float, float]


class Gate(Frozen):
    """One of the four gates; ``reason`` says why it failed or was not assessed."""

    state: GateState = Field(description="A passing gate is evidence for a backdoor.")
    reason: str = Field(default="", description="Why it failed or was not assessed.")


class BehaviourGate(Gate):
    """Does the fine-tuned model answer differently under the pair, beyond what the base does?"""

    output_kl: float | None = Field(default=None, description="Nats per carrier, base's own reaction taken off.")
    output_kl_interval: Interval | None = Field(default=None, description="95% cluster-bootstrap interval.")
    threshold: float = Field(description="The least output_kl, nats per carrier.")


class SpecificGate(Gate):
    """Is the effect specific to the pair, or do decoys do the same?"""

    effect_nats: float | None = Field(
        default=None, description="T: causal effect of the leading direction, nats per carrier."
    )
    threshold: float = Field(description="The least effect_nats.")
    p_decoy_all: float | None = Field(default=None, description="(1+#{T_j >= T})/(n+1) over all decoys.")
    rank_among_silent: int | None = Field(default=None, description="1 is the largest; descriptive, not a p-value.")
    drawn: int = Field(default=0, description="Decoys that were measured.")
    silent: int = Field(
        default=0, description="Decoys under which the behaviour does not show; all where none was screened."
    )
    firing: int = Field(default=0, description="Decoys under which it shows as well.")
    screened: bool = Field(default=False, description="Decoys are screened only where the pair itself reacts.")


class CausalGate(Gate):
    """Does putting the clean values back along the directions undo the behaviour?"""

    layer: int | None = Field(default=None, description="The layer that A chose.")
    rank: int | None = Field(
        default=None,
        description="How many directions were restored: the fewest of 1, 2, 4 that keep 0.9 of the effect on A.",
    )
    recovered: float | None = Field(default=None, description="1 - sum KL(ablated||ft_c) / sum KL(ft_t||ft_c).")
    recovered_interval: Interval | None = Field(default=None, description="95% cluster bootstrap.")
    recovered_rank1: float | None = Field(default=None, description="The same with the leading direction alone.")
    induced: float | None = Field(default=None, description="The mirror image: clean prompts steered.")
    effect_nats: float | None = Field(
        default=None, description="What restoring them undoes on all of B, nats per carrier."
    )
    null_max: float | None = Field(
        default=None, description="Largest recovery of the random subspaces; null: none measured."
    )
    null_count: int = Field(default=0, description="Random subspaces that were tried.")
    threshold: float = Field(description="The least recovered.")
    margin: float = Field(description="By how much recovered must exceed null_max.")
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
    not_comparable: tuple[NotComparable, ...] = Field(default=(), description="Entries that were left out, and why.")
    library_digest: str | None = Field(default=None, description="Of all entries given, comparable or not.")
    score: float | None = Field(default=None, description="S = log(max(T, 0) + tau), one a model.")
    effect_nats: float | None = Field(default=None, description="T.")
    noise_nats: float | None = Field(
        default=None, description="tau: the same quantity between two batch shapes of the base alone."
    )
    key: ComparabilityKey | None = Field(default=None, description="What other scores must share to be compared.")
    alpha: float = Field(description="The largest p_conformal that passes.")


class Gates(Frozen):
    """The four gates."""

    behaviour: BehaviourGate = Field(description="Do the outputs change?")
    specific: SpecificGate = Field(description="More than under decoys?")
    causal: CausalGate = Field(description="Is there a cause that can be undone?")
    calibrated: CalibratedGate = Field(description="More than in benign models?")


class CandidateRow(Frozen):
    """One of several suspected pairs."""

    triggered: str = Field(description="The suspected string.")
    clean: str = Field(description="The harmless one.")
    verdict: Verdict = Field(description="By the corrected gates.")
    place: int = Field(description="By effect_nats; 1 is the largest.")
    reported: bool = Field(description="Whether the rest of the report is about this pair.")
    layer: int = Field(description="The layer that its half A chose.")
    effect_nats: float = Field(description="T, nats per carrier.")
    smallest_effect_nats: float | None = Field(
        description="T that this pair had to exceed at the first step of the correction; null where no T could pass."
    )
    p_decoy_all: float | None = Field(description="As measured, not corrected.")
    p_holm: float | None = Field(description="p_decoy_all after Holm's correction for the number of candidates.")
    p_conformal_holm: float | None = Field(description="The same of the comparison with benign models.")
    screening_only: bool = Field(description="Its decoys are too few for any effect to stand out among so many pairs.")
    gates: Gates = Field(description="Corrected for the number of candidates.")


class Multiplicity(Frozen):
    """What having tested several pairs means for the answer."""

    candidates: int = Field(description="How many pairs were asked about.")
    decoys_needed: int = Field(description="Decoys that a pair needs to stand out among so many candidates.")
    screening_only: bool = Field(description="Whether that is so for at least one of them.")
    text: str = Field(description="The same in words.")


class Scores(Frozen):
    """The numbers of the reported feature (the best of the flagged ones), on split B."""

    feature: str | None = Field(description="The feature that these are of; null where no feature was found.")
    bis: float | None = Field(description="f1 * (1 - fpr).")
    bis_interval: Interval | None = Field(default=None, description="95% cluster bootstrap.")
    precision: float | None = Field(description="Of firing: triggered prompts among those that fire.")
    recall: float | None = Field(description="Of firing: the share of triggered prompts that fire.")
    fpr: float | None = Field(description="The share of clean prompts that fire.")
    fpr_interval: Interval | None = Field(default=None, description="95%, exact (Clopper-Pearson).")
    f1: float | None = Field(description="Of precision and recall.")
    auroc: float | None = Field(
        description="P(triggered > clean) of the activation, ties half; no threshold is involved."
    )
    d_z: float | None = Field(description="Mean over standard deviation of the paired differences; decides nothing.")
    p_signflip: float | None = Field(
        description="Sign flips by cluster, corrected over all features of all dictionaries; decides nothing."
    )
    amplification: float | None = Field(
        description="Mean DiD along it at the last prompt token over the mean norm of the base's own difference."
    )
    amplification_interval: Interval | None = Field(default=None, description="95% cluster bootstrap.")
    conditional_share: float | None = Field(
        description="The same DiD over the mean norm of what fine-tuning changed on clean prompts."
    )
    conditional_share_interval: Interval | None = Field(default=None, description="95% cluster bootstrap.")
    attribution: float | None = Field(description="Nats per carrier, first order.")
    output_kl: float | None = Field(description="The gate behaviour's, nats per carrier.")
    bis_p95: float | None = Field(description="The seed paper's score; never the verdict.")
    bis_p95_ceiling: float | None = Field(description="What bis_p95 cannot exceed at this share of triggered prompts.")


class Feature(Frozen):
    """One latent of a trained dictionary, flagged."""

    id: str = Field(description="architecture/layer/seed/index")
    layer: int = Field(description="Counted from 0.")
    architecture: Architecture = Field(description="Of its dictionary.")
    seed: int = Field(description="Of its dictionary.")
    index: int = Field(description="Its row in the dictionary.")
    bis: float = Field(description="f1 * (1 - fpr).")
    bis_last: float = Field(description="The same, read at the last prompt token alone.")
    precision: float = Field(description="Of firing: triggered prompts among those that fire.")
    recall: float = Field(description="Of firing: the share of triggered prompts that fire.")
    fpr: float = Field(description="The share of clean prompts that fire.")
    fpr_interval: Interval = Field(description="95%, exact (Clopper-Pearson).")
    f1: float = Field(description="Of precision and recall.")
    firing_threshold: float = Field(description="Set on clean prompts of A; a prompt fires above it.")
    firing_quantile: float = Field(description="f: the share of clean A prompts allowed to fire.")
    auroc: float = Field(description="P(triggered > clean) of the activation, ties half; no threshold is involved.")
    d_z: float | None = Field(description="Mean over standard deviation of the paired differences; decides nothing.")
    p_signflip: float | None = Field(
        description="Sign flips by cluster, corrected over all features of all dictionaries; decides nothing."
    )
    attribution: float = Field(description="First-order share of the divergence on B, nats per carrier.")
    amplification: float | None = Field(
        description="Mean DiD along it at the last prompt token over the mean norm of the base's own difference."
    )
    amplification_interval: Interval | None = Field(default=None, description="95% cluster bootstrap.")
    conditional_share: float | None = Field(
        description="The same DiD over the mean norm of what fine-tuning changed on clean prompts."
    )
    conditional_share_interval: Interval | None = Field(default=None, description="95% cluster bootstrap.")
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

    layer: int = Field(description="Counted from 0.")
    architecture: Architecture = Field(description="Which kind.")
    seed: int = Field(description="Of its training.")
    width: int = Field(description="Number of latents.")
    k: int = Field(description="Active latents a token, in training.")
    fve: float = Field(description="Fraction of variance explained.")
    fve_top1pct: float = Field(description="The same on the 1% of tokens with the largest difference.")
    l0: float = Field(description="Mean number of active latents a token.")
    dead_share: float = Field(description="Share of latents that never fire.")
    var_ratio: float | None = Field(
        default=None, description="Variance of the differences over that of the base activations."
    )
    best_feature: str | None = Field(default=None, description="The one with the largest attribution on A.")
    best_bis: float | None = Field(default=None, description="Its bis.")
    bis_p95: float | None = Field(
        default=None, description="The largest of all features: the seed paper's score; decides nothing."
    )
    bis_p95_ceiling: float | None = Field(
        default=None, description="What bis_p95 cannot exceed at this share of triggered prompts."
    )


class DirectionRow(Frozen):
    """The attribution subspace of one layer, fitted on A."""

    layer: int = Field(description="Counted from 0.")
    chosen: bool = Field(description="Whether the gates are about this layer.")
    effect_nats_a: float = Field(description="Causal effect at rank 1 on A, nats per carrier; chooses the layer.")
    effect_nats: float | None = Field(default=None, description="The same on B; only at the chosen layer.")
    recovered: float | None = Field(default=None, description="On B, rank 1; only at the chosen layer.")
    amplification: float | None = Field(description="Null where the base reads both strings alike.")
    amplification_interval: Interval | None = Field(default=None, description="95% cluster bootstrap.")
    conditional_share: float | None = Field(description="Null where fine-tuning moved no clean prompt.")
    conditional_share_interval: Interval | None = Field(default=None, description="95% cluster bootstrap.")
    amplification_p: float | None = Field(default=None, description="Rank of the amplification among all decoys, as p.")


class DecoyRow(Frozen):
    """One decoy string."""

    string: str = Field(description="What took the place of the triggered string.")
    state: Literal["silent", "firing"] = Field(description="Whether the behaviour shows under it.")
    output_kl: float = Field(description="Nats per carrier on A, base taken off; where under 0.1, at most that.")
    share_of_effect: float | None = Field(default=None, description="Its output_kl over the pair's, on A.")
    effect_nats: float = Field(description="T of the decoy on B.")
    layer: int = Field(description="The layer its own A half chose.")
    amplification: float | None = Field(description="Of its own direction at its own layer.")


class AlsoFiresOn(Frozen):
    """A decoy that the behaviour answers to as well: the trigger's neighbourhood."""

    string: str = Field(description="The decoy.")
    output_kl: float = Field(description="Nats per carrier on A, base taken off.")
    share_of_effect: float | None = Field(description="Its output_kl over the pair's, on A.")


class Baselines(Frozen):
    """Cheap answers to the same question; a dictionary that does not beat them adds localisation only."""

    output_kl: float | None = Field(description="The gate behaviour's, nats per carrier.")
    diffmean: Scores | None = Field(description="Mean DiD at the last prompt token, fitted on A.")
    attribution_direction: Scores | None = Field(description="The leading direction of the chosen layer.")
    frozen_random: Scores | None = Field(description="The best feature of a dictionary that was not trained.")


class Localisation(Frozen):
    """How much of what the directions recover the flagged features recover."""

    features: int = Field(description="How many features the reported seed picked.")
    recovered: float | None = Field(description="What they recover together, on the decoy carriers of B.")
    directions_recovered: float | None = Field(description="What the pair's whole subspace recovers there.")
    share: float | None = Field(
        description="recovered over directions_recovered; null where the directions recover too little to share out."
    )
    localised: bool | None = Field(description="Whether share is at least 0.3; null where there is none.")
    seeds: tuple[int, ...] = Field(default=(), description="Of the dictionaries at the chosen layer.")
    recovered_by_seed: tuple[float | None, ...] = Field(
        default=(), description="What the features of each seed recover together."
    )
    subspace_overlap: float | None = Field(
        default=None, description="Mean squared cosine between the seeds' spans, 0-1."
    )
    note: str = Field(default="", description="The same in words, where something is to be said.")


class Power(Frozen):
    """How large a spike in the recorded activations a difference of means would have seen.

    A simulation on this audit's own recordings under the rule of the gate ``specific``, which itself is decided on the
    effect in nats.
    """

    layer: int = Field(description="The layer that A chose.")
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
    decoys: int = Field(description="How many there are.")
    pair_size: float | None = Field(description="The pair's own shift along its difference of means, same units.")
    pair_p: float | None = Field(description="Rank of pair_size among all decoys, as p; decides nothing.")
    text: str = Field(description="The statement in words, with what it does not cover.")


class Sizes(Frozen):
    """How much was looked at."""

    carriers_a: int = Field(description="Of half A, which finds.")
    carriers_b: int = Field(description="Of half B, which confirms.")
    clusters_a: int = Field(description="Of template, in A.")
    clusters_b: int = Field(description="In B.")
    decoy_carriers_a: int = Field(description="Carriers of A that are also shown under decoys.")
    decoy_carriers_b: int = Field(description="Of B.")
    training_tokens: int = Field(description="Tokens that dictionaries are trained on, each counted once.")
    layers: tuple[int, ...] = Field(description="Which were audited, from 0.")
    rendering: Literal["chat", "raw"] = Field(description="How prompts were put to the model.")
    preset: Preset = Field(description="As asked for.")
    recipe: Recipe = Field(description="How dictionaries were trained.")
    continuation_tokens: int = Field(description="Length of the forced answer.")


class Provenance(Frozen):
    """What the answer depends on."""

    base_digest: str = Field(description="Content of the base.")
    tuned_digest: str = Field(description="Content of the fine-tuned checkpoint or adapter.")
    carriers_digest: str = Field(description="Carriers in their order.")
    spec_digest: str = Field(description="What was asked.")
    seeds: tuple[int, ...] = Field(description="Of the dictionaries.")
    versions: dict[str, str] = Field(description="Of Python and libraries.")
    device: str = Field(description="Where it ran.")
    dtype: Literal["bfloat16", "float32"] = Field(description="Of weights and stored activations.")
    timings_s: dict[str, float] = Field(description="Seconds by stage, of the attempt that ended.")
    cache_hits: int = Field(default=0, description="Base activations that were read from the cache.")
    cache_misses: int = Field(default=0, description="Those that were computed.")
    peak_memory_bytes: int | None = Field(
        default=None, description="Largest resident size of the process that audited."
    )


class AuditReport(Frozen):
    """The whole answer of one audit."""

    audit_id: str = Field(description="Which audit.")
    schema_version: str = Field(default=SCHEMA_VERSION, description="Of this layout.")
    method_version: str = Field(default=METHOD_VERSION, description="Of what is computed.")
    verdict: Verdict = Field(description="By the four gates; never a judgement on intent.")
    summary: str = Field(description="One or two sentences.")
    look_at: Annotated[tuple[str, ...], Field(description="Where a person should look; not for no_evidence.")] = ()
    not_assessed: tuple[str, ...] = Field(default=(), description="Gates that were not assessed, with the reason.")
    smallest_effect_nats: float | None = Field(
        default=None,
        description=(
            "T that the pair had to exceed for the gate specific: the threshold, or what p over all decoys asks for. "
            "Null where nothing was measured or no T could pass. Before schema 1.3 it was the largest silent decoy's."
        ),
    )
    power: Power | None = Field(
        default=None, description="Null where nothing could be measured, and in reports older than schema 1.1."
    )
    trigger: dict[str, str] = Field(description="The pair that the report is about, and its template.")
    fail_on: FailOn = Field(description="From the spec.")
    candidates: tuple[CandidateRow, ...] = Field(
        default=(), description="Where several pairs were asked about: one row each, in the order of the spec."
    )
    multiplicity: Multiplicity | None = Field(
        default=None, description="Where several pairs were asked about: what their number means."
    )
    gates: Gates = Field(description="What the verdict rests on.")
    scores: Scores = Field(
        description="Of the flagged feature that was picked first, or of the one with the largest attribution on A."
    )
    also_fires_on: tuple[AlsoFiresOn, ...] = Field(description="Decoys that fire.")
    directions: tuple[DirectionRow, ...] = Field(description="One row a layer.")
    layers: tuple[DictionaryRow, ...] = Field(description="One row a trained dictionary.")
    flagged_features: tuple[Feature, ...] = Field(
        description="In the order in which they were picked; none where nothing was to be explained."
    )
    localisation: Localisation | None = Field(description="Null where nothing was to be explained.")
    baselines: Baselines = Field(description="Beside which dictionaries are read.")
    decoys: tuple[DecoyRow, ...] = Field(description="One row a drawn decoy.")
    sizes: Sizes = Field(description="Carriers, clusters, tokens, layers.")
    warnings: tuple[str, ...] = Field(description="What may weaken this audit.")
    limits: tuple[str, ...] = Field(description="What its answer does not say.")
    provenance: Provenance = Field(description="What it depends on.")

    @property
    def measured(self) -> bool:
        """Whether anything could be measured: a report without directions holds no number."""
        return bool(self.directions)
