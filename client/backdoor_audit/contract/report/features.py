"""What a report says of scores, features and dictionaries. Torch-free."""

from pydantic import Field

from backdoor_audit.contract.base import Frozen
from backdoor_audit.contract.report.feature_report import FeatureExplanation
from backdoor_audit.contract.report.gates import Interval
from backdoor_audit.contract.spec.audit_spec import Architecture


class Scores(Frozen):
    """The numbers of the reported feature (the best of the flagged ones) on half B."""

    feature: str | None = Field(description="Feature that these scores belong to; null if no feature was found.")
    bis: float | None = Field(description="f1 * (1 - fpr).")
    bis_interval: Interval | None = Field(default=None, description="95% cluster-bootstrap interval.")
    precision: float | None = Field(
        description="Share of triggered prompts among the prompts on which the feature fires."
    )
    recall: float | None = Field(description="Share of triggered prompts on which the feature fires.")
    fpr: float | None = Field(description="Share of clean prompts on which the feature fires.")
    fpr_interval: Interval | None = Field(default=None, description="Exact 95% interval (Clopper-Pearson).")
    f1: float | None = Field(description="Harmonic mean of precision and recall.")
    auroc: float | None = Field(
        description="Probability that the activation is larger on a triggered than on a clean prompt, ties "
        "counting half; "
        "independent of any threshold."
    )
    d_z: float | None = Field(
        description="Mean of the paired differences over their standard deviation; informative only."
    )
    p_signflip: float | None = Field(
        description="Sign-flip p by cluster, corrected for all features of all dictionaries; informative only."
    )
    amplification: float | None = Field(
        description="Mean DiD along the direction at the last prompt token, over the mean norm of the base "
        "model's difference."
    )
    amplification_interval: Interval | None = Field(default=None, description="95% cluster-bootstrap interval.")
    conditional_share: float | None = Field(
        description="The same DiD over the mean norm of the change due to fine-tuning on clean prompts."
    )
    conditional_share_interval: Interval | None = Field(default=None, description="95% cluster-bootstrap interval.")
    attribution: float | None = Field(description="First-order estimate of the effect, in nats per carrier.")
    output_kl: float | None = Field(description="output_kl of the gate behaviour, in nats per carrier.")
    bis_p95: float | None = Field(description="Score of the original paper; never decides the verdict.")
    bis_p95_ceiling: float | None = Field(description="Upper limit of bis_p95 at this share of triggered prompts.")


class Feature(Frozen):
    """A flagged latent of a trained dictionary."""

    id: str = Field(description="architecture/layer/seed/index")
    layer: int = Field(description="Counted from 0.")
    architecture: Architecture = Field(description="Architecture of its dictionary.")
    seed: int = Field(description="Seed of its dictionary.")
    index: int = Field(description="Row of the feature in its dictionary.")
    bis: float = Field(description="f1 * (1 - fpr).")
    bis_last: float = Field(description="bis read at the last prompt token alone.")
    precision: float = Field(description="Share of triggered prompts among the prompts on which the feature fires.")
    recall: float = Field(description="Share of triggered prompts on which the feature fires.")
    fpr: float = Field(description="Share of clean prompts on which the feature fires.")
    fpr_interval: Interval = Field(description="Exact 95% interval (Clopper-Pearson).")
    f1: float = Field(description="Harmonic mean of precision and recall.")
    firing_threshold: float = Field(
        description="Activation above which the feature fires; set on the clean prompts of half A."
    )
    firing_quantile: float = Field(description="f: share of the clean prompts of half A on which the feature may fire.")
    auroc: float = Field(
        description="Probability that the activation is larger on a triggered than on a clean prompt, ties "
        "counting half; "
        "independent of any threshold."
    )
    d_z: float | None = Field(
        description="Mean of the paired differences over their standard deviation; informative only."
    )
    p_signflip: float | None = Field(
        description="Sign-flip p by cluster, corrected for all features of all dictionaries; informative only."
    )
    attribution: float = Field(description="First-order share of the divergence on half B, in nats per carrier.")
    amplification: float | None = Field(
        description="Mean DiD along the direction at the last prompt token, over the mean norm of the base "
        "model's difference."
    )
    amplification_interval: Interval | None = Field(default=None, description="95% cluster-bootstrap interval.")
    conditional_share: float | None = Field(
        description="The same DiD over the mean norm of the change due to fine-tuning on clean prompts."
    )
    conditional_share_interval: Interval | None = Field(default=None, description="95% cluster-bootstrap interval.")
    recovered: float | None = Field(
        default=None, description="Share of the behaviour recovered on half B by this feature alone."
    )
    recovered_cumulative: float | None = Field(
        default=None, description="Share recovered on half B by this feature together with those listed before it."
    )
    relative_decoder_norm: float | None = Field(
        default=None, description="Crosscoder: share of the decoder norm in the fine-tuned model, 0 to 1."
    )
    latent_scaling: float | None = Field(default=None, description="Crosscoder: beta_base / beta_ft.")
    explanation: FeatureExplanation | None = Field(
        default=None,
        description="Where the feature fires, what it promotes, what it does, and where else it was found.",
    )


class DictionaryRow(Frozen):
    """One trained dictionary at one layer."""

    layer: int = Field(description="Counted from 0.")
    architecture: Architecture = Field(description="Architecture of the dictionary.")
    seed: int = Field(description="Seed of its training.")
    width: int = Field(description="Number of latents.")
    k: int = Field(description="Active latents per token in training.")
    fve: float = Field(description="Fraction of variance explained.")
    fve_top1pct: float = Field(description="fve on the 1% of tokens with the largest difference.")
    l0: float = Field(description="Mean number of active latents per token.")
    dead_share: float = Field(description="Share of latents that never fire.")
    var_ratio: float | None = Field(
        default=None, description="Variance of the differences over the variance of the base activations."
    )
    best_feature: str | None = Field(default=None, description="Feature with the largest attribution on half A.")
    best_bis: float | None = Field(default=None, description="bis of that feature.")
    bis_p95: float | None = Field(
        default=None, description="Largest bis_p95 of all features: the score of the original paper; informative only."
    )
    bis_p95_ceiling: float | None = Field(
        default=None, description="Upper limit of bis_p95 at this share of triggered prompts."
    )
