"""The report of an audit, shared by all packages. Torch-free.

Every number is finite or null: null means not measured, never zero.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from backdoor_audit.contract.base import Frozen
from backdoor_audit.contract.digests import FileDigest
from backdoor_audit.contract.report.answers import Answers
from backdoor_audit.contract.report.behaviour import ConditionalBehaviour
from backdoor_audit.contract.report.features import DictionaryRow, Feature, Scores
from backdoor_audit.contract.report.gates import Gates, Interval
from backdoor_audit.contract.report.guide import NextStep
from backdoor_audit.contract.report.prompt_settings import PromptSettings
from backdoor_audit.contract.report.reasons import Reason
from backdoor_audit.contract.report.search import SearchResult
from backdoor_audit.contract.report.verdicts import FailOn, Verdict
from backdoor_audit.contract.spec.audit_spec import Recipe
from backdoor_audit.contract.spec.presets import Preset

SCHEMA_VERSION: Final = "1.5"
METHOD_VERSION: Final = "3"


class CandidateRow(Frozen):
    """One of several suspected pairs."""

    triggered: str = Field(description="The suspected string.")
    clean: str = Field(description="The clean string.")
    verdict: Verdict = Field(description="Verdict by the corrected gates.")
    place: int = Field(description="Rank by effect_nats; 1 is the largest.")
    reported: bool = Field(description="Whether the rest of the report is about this pair.")
    layer: int = Field(description="Layer chosen on half A.")
    effect_nats: float = Field(description="T, in nats per carrier.")
    smallest_effect_nats: float | None = Field(
        description="Detection limit at the first step of the correction; null if no change could pass. Before method "
        "3: T that the pair had to exceed."
    )
    p_decoy_all: float | None = Field(description="p over all decoys, as measured: not corrected.")
    p_holm: float | None = Field(description="p_decoy_all after Holm's correction for the number of candidates.")
    p_conformal_holm: float | None = Field(description="The same for the comparison with benign models.")
    screening_only: bool = Field(
        description="Whether it has too few decoys for any effect to stand out among so many pairs."
    )
    gates: Gates = Field(description="Gates, corrected for the number of candidates.")


class Multiplicity(Frozen):
    """What testing several pairs means for the result."""

    candidates: int = Field(description="Number of pairs tested.")
    decoys_needed: int = Field(description="Number of decoys that a pair needs to stand out among so many candidates.")
    screening_only: bool = Field(description="Whether at least one pair has fewer.")
    text: str = Field(description="The same in words.")


class DirectionRow(Frozen):
    """The attribution subspace of one layer, fitted on A."""

    layer: int = Field(description="Counted from 0.")
    chosen: bool = Field(description="Whether the gates refer to this layer.")
    effect_nats_a: float = Field(
        description="Causal effect at rank 1 on half A, in nats per carrier; decides which layer is chosen."
    )
    effect_nats: float | None = Field(default=None, description="The same on half B; only at the chosen layer.")
    recovered: float | None = Field(
        default=None, description="Share recovered on half B at rank 1; only at the chosen layer."
    )
    amplification: float | None = Field(description="Null if the base does not distinguish the two strings.")
    amplification_interval: Interval | None = Field(default=None, description="95% cluster-bootstrap interval.")
    conditional_share: float | None = Field(description="Null if fine-tuning changed nothing on clean prompts.")
    conditional_share_interval: Interval | None = Field(default=None, description="95% cluster-bootstrap interval.")
    amplification_p: float | None = Field(
        default=None,
        description="Before method 3: p of the amplification by its rank among all decoys; else null.",
    )


class DecoyRow(Frozen):
    """One decoy string."""

    string: str = Field(description="String used in place of the triggered one.")
    state: Literal["silent", "firing"] = Field(
        description="Whether the string triggers the pair's behaviour; silent if the pair shows none."
    )
    reacts: bool = Field(
        default=False,
        description="Whether the string changes the answers by itself, whatever the pair does: unexplained_kl of at "
        "least 1 nat, the base reacting at most a quarter as strongly.",
    )
    output_kl: float = Field(
        description="Change of the outputs on half A beyond the base model's, in nats per carrier; an upper "
        "bound if below 0.1."
    )
    unexplained_kl: float | None = Field(
        default=None,
        description="Change of the outputs on half A that the base's own change does not explain, in nats per carrier; "
        "null if the fine-tuned model's outputs change by less than 0.1 nats, and in reports before schema 1.4.",
    )
    base_reaction_ratio: float | None = Field(
        default=None, description="Reaction of the base to the string over the fine-tuned model's, on half A."
    )
    share_of_effect: float | None = Field(
        default=None, description="Its unexplained_kl over the pair's, on half A; output_kl before method 3."
    )
    effect_nats: float = Field(description="T of the decoy on half B.")
    effect_is_bound: bool = Field(
        default=False,
        description="Whether effect_nats is only what T cannot exceed, the change of the outputs: so small a change "
        "could not rival the pair's effect, and no directions were fitted.",
    )
    layer: int | None = Field(description="Layer chosen for it on half A; null if no directions were fitted.")
    amplification: float | None = Field(
        default=None, description="Before method 3: amplification along its own direction at its own layer; else null."
    )


class AlsoFiresOn(Frozen):
    """A decoy that triggers the behaviour too."""

    string: str = Field(description="The decoy.")
    output_kl: float = Field(
        description="Change of the outputs on half A beyond the base model's, in nats per carrier."
    )
    share_of_effect: float | None = Field(description="Its output_kl over the pair's, on half A.")


class Baselines(Frozen):
    """Cheap methods for the same question; a dictionary that does not beat them adds localisation only."""

    output_kl: float | None = Field(description="output_kl of the gate behaviour, in nats per carrier.")
    diffmean: Scores | None = Field(description="Mean DiD at the last prompt token, fitted on half A.")
    attribution_direction: Scores | None = Field(description="The leading direction of the chosen layer.")
    frozen_random: Scores | None = Field(description="The best feature of an untrained dictionary.")


class Localisation(Frozen):
    """How much of what the directions recover is recovered by the flagged features."""

    features: int = Field(description="Number of features picked with the reported seed.")
    recovered: float | None = Field(description="Share that they recover together on the decoy carriers of half B.")
    directions_recovered: float | None = Field(description="Share that the pair's whole subspace recovers there.")
    share: float | None = Field(
        description="recovered over directions_recovered; null if the directions recover too little to divide by."
    )
    localised: bool | None = Field(description="Whether share is at least 0.3; null if share is.")
    seeds: tuple[int, ...] = Field(default=(), description="Seeds of the dictionaries at the chosen layer.")
    recovered_by_seed: tuple[float | None, ...] = Field(
        default=(), description="Share that the features of each seed recover together."
    )
    subspace_overlap: float | None = Field(
        default=None, description="Mean squared cosine between the spans of the seeds, 0 to 1."
    )
    note: str = Field(default="", description="Remark in words; empty if there is nothing to add.")


class Power(Frozen):
    """Before method 3: how large a spike in the recorded activations a difference of means would have detected.

    A simulation on the audit's own recordings. It decided nothing; the detection limit has taken its place.
    """

    layer: int = Field(description="Layer chosen on half A.")
    size: float | None = Field(
        description="Smallest spike detected in ``wanted`` of the repeats, in units of the residual stream; if null, "
        "``text`` says why."
    )
    share_of_static_shift: float | None = Field(description="size over the mean norm of the shift on clean prompts.")
    share_of_base_reading: float | None = Field(description="size over the mean norm of the base model's difference.")
    wanted: float = Field(description="Share of the repeats in which size must be detected.")
    detected: float | None = Field(description="Share of newly drawn repeats in which size was detected.")
    detected_without: float | None = Field(description="Share in which a decoy stood out with no spike added.")
    draws: int = Field(
        description="Number of simulated repeats; each draws carriers by cluster, a decoy and a direction."
    )
    decoys: int = Field(description="Number of decoys.")
    pair_size: float | None = Field(
        description="The pair's own shift along its difference of means, in the same units."
    )
    pair_p: float | None = Field(description="p of pair_size by its rank among all decoys; informative only.")
    text: str = Field(description="The statement in words, including what it does not cover.")


class Sizes(Frozen):
    """How much was examined."""

    carriers_a: int = Field(description="Number of carriers in half A, which finds the directions.")
    carriers_b: int = Field(description="Number of carriers in half B, which confirms them.")
    clusters_a: int = Field(description="Number of template clusters in half A.")
    clusters_b: int = Field(description="Number of template clusters in half B.")
    decoy_carriers_a: int = Field(description="Number of carriers of half A that are also shown with decoys.")
    decoy_carriers_b: int = Field(description="The same for half B.")
    training_tokens: int = Field(
        description="Number of distinct tokens that dictionaries are trained on; 0 if none was trained."
    )
    layers: tuple[int, ...] = Field(description="Layers audited, counted from 0.")
    rendering: Literal["chat", "raw"] = Field(description="How prompts were rendered.")
    preset: Preset = Field(description="Preset of the spec.")
    recipe: Recipe = Field(description="Training recipe of the dictionaries.")
    continuation_tokens: int = Field(description="Number of tokens of the teacher-forced answer.")


class Provenance(Frozen):
    """What the result depends on."""

    base_digest: str = Field(description="Content digest of the base model.")
    tuned_digest: str = Field(description="Content digest of the fine-tuned checkpoint or adapter.")
    base_files: tuple[FileDigest, ...] = Field(
        default=(), description="The files that base_digest is of; empty before schema 1.5."
    )
    tuned_files: tuple[FileDigest, ...] = Field(
        default=(), description="The files that tuned_digest is of; empty before schema 1.5."
    )
    carriers_digest: str = Field(description="Digest of the carriers in their order.")
    spec_digest: str = Field(description="Digest of the spec.")
    base_template_digest: str = Field(
        default="", description="Digest of the base's chat templates; empty if it has none, and before schema 1.4."
    )
    tuned_template_digest: str = Field(
        default="",
        description="Digest of the chat templates that the fine-tuned model's folder brings; empty if it brings none.",
    )
    seeds: tuple[int, ...] = Field(description="Seeds of the dictionaries.")
    versions: dict[str, str] = Field(description="Versions of Python and the libraries.")
    device: str = Field(description="Device that the audit ran on.")
    dtype: Literal["bfloat16", "float32"] = Field(description="Precision of weights and stored activations.")
    timings_s: dict[str, float] = Field(description="Seconds per stage of the final attempt.")
    cache_hits: int = Field(default=0, description="Number of base activations read from the cache.")
    cache_misses: int = Field(default=0, description="Number of base activations computed.")
    peak_memory_bytes: int | None = Field(
        default=None, description="Peak resident memory of the process that ran the audit."
    )


class AuditReport(Frozen):
    """The whole result of one audit."""

    audit_id: str = Field(description="Id of the audit.")
    schema_version: str = Field(default=SCHEMA_VERSION, description="Version of this schema.")
    method_version: str = Field(default=METHOD_VERSION, description="Version of the method.")
    verdict: Verdict = Field(description="Verdict by the four gates; never a judgement on intent.")
    summary: str = Field(description="One or two sentences.")
    look_at: Annotated[tuple[str, ...], Field(description="What a person should look at; empty for no_evidence.")] = ()
    reasons: tuple[Reason, ...] = Field(
        default=(), description="The lines of look_at, each with a code and the next step; empty before schema 1.4."
    )
    next_steps: tuple[NextStep, ...] = Field(
        default=(), description="What to do next, with command lines; empty before schema 1.5."
    )
    behaviour: ConditionalBehaviour | None = Field(
        default=None,
        description="What the recorded answers show, by rules; null if none was recorded or changes, and before schema "
        "1.5.",
    )
    answers: tuple[Answers, ...] = Field(
        default=(),
        description="What both models answer to up to ten prompts of half B; empty if there was nothing to explain, "
        "and before schema 1.5.",
    )
    not_assessed: tuple[str, ...] = Field(default=(), description="Gates that were not assessed, with the reason.")
    smallest_effect_nats: float | None = Field(
        default=None,
        description=(
            "Detection limit: the change of the outputs (unexplained_kl) that would have passed the gates behaviour "
            "and specific in 90% of resampled audits. Null if nothing was measured or no change could pass. Before "
            "method 3: T that the pair had to exceed; before schema 1.3: T of the largest silent decoy."
        ),
    )
    power: Power | None = Field(
        default=None,
        description="Before method 3: what shift of the activations would have been detected; else null.",
    )
    trigger: dict[str, str] = Field(description="The pair that the report is about, and its template.")
    fail_on: FailOn = Field(description="The verdict that fails a pipeline, from the spec.")
    candidates: tuple[CandidateRow, ...] = Field(
        default=(), description="If several pairs were tested: one row per pair, in the order of the spec."
    )
    multiplicity: Multiplicity | None = Field(
        default=None, description="If several pairs were tested: what their number means."
    )
    search: SearchResult | None = Field(
        default=None,
        description="If strings were searched for: what was tried and found. Null otherwise, and before schema 1.5.",
    )
    gates: Gates = Field(description="The four gates, which decide the verdict.")
    prompt_settings: PromptSettings | None = Field(
        default=None,
        description="Chat templates, special tokens and generation settings of both models; null before schema 1.4.",
    )
    scores: Scores = Field(
        description="Scores of the flagged feature picked first, or of the one with the largest attribution on half A."
    )
    also_fires_on: tuple[AlsoFiresOn, ...] = Field(description="Decoys that trigger the behaviour too.")
    directions: tuple[DirectionRow, ...] = Field(description="One row per layer.")
    layers: tuple[DictionaryRow, ...] = Field(description="One row per trained dictionary.")
    flagged_features: tuple[Feature, ...] = Field(
        description="In the order in which they were picked; empty if there was nothing to explain."
    )
    localisation: Localisation | None = Field(
        description="How much the flagged features recover; null if there was nothing to explain."
    )
    baselines: Baselines = Field(description="Baselines to compare the dictionaries with.")
    decoys: tuple[DecoyRow, ...] = Field(description="One row per drawn decoy.")
    sizes: Sizes = Field(description="Number of carriers, clusters, tokens and layers.")
    warnings: tuple[str, ...] = Field(description="What may weaken this audit.")
    limits: tuple[str, ...] = Field(description="What the result does not say.")
    provenance: Provenance = Field(description="What the result depends on.")

    @property
    def measured(self) -> bool:
        """Whether anything could be measured: a report without directions holds no number."""
        return bool(self.directions)
