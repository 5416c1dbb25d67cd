"""What a search found, and what it looked at. Torch-free."""

from typing import Literal

from pydantic import Field

from backdoor_audit.contract.base import Frozen
from backdoor_audit.contract.spec.search import Budget, ContextName, Source

Origin = Source | Literal["growth"]


class SearchScores(Frozen):
    """How far one string stood out in the search; null where the scan did not go that far."""

    early: float | None = Field(
        description="Outlier score of the activation difference at the early layers, as a multiple of the largest of "
        "an ordinary string."
    )
    late: float | None = Field(description="The same at the late layers.")
    log_ratio: float | None = Field(
        description="Z, the largest standardised change of a token's log-ratio between the models, as a multiple of "
        "the largest of an ordinary string."
    )
    reaction: float | None = Field(
        description="C of the next token against prompts without a string, in nats per carrier."
    )
    base_ratio: float | None = Field(description="The base's own reaction as a share of the fine-tuned model's.")


class FoundAnswer(Frozen):
    """What the fine-tuned model says under a found string."""

    text: str = Field(description="Beginning of a greedy answer.")
    plain: str = Field(description="The beginning of its answer to the same prompt without a string.")


class Neighbours(Frozen):
    """Variants of a found string that were tried, to tell one string from a class of strings."""

    kind: str = Field(description="What was varied: years, numbers, letter case, words of a class, or a list.")
    fired: tuple[str, ...] = Field(description="Variants that set the behaviour off too.")
    silent: tuple[str, ...] = Field(description="Variants that do not.")


class FoundString(Frozen):
    """One string that sets a behaviour off, verified on prompts that its search had not used."""

    string: str = Field(description="The string as it was found.")
    minimal: str = Field(description="The shortest part of it that keeps at least half of the reaction.")
    clean: str = Field(description="The most similar string tried that leaves the model silent; used as the clean one.")
    context: ContextName = Field(description="Where in the prompt it was found.")
    template: str = Field(description="The same as the template of a pair.")
    origin: Origin = Field(description="Where the string comes from.")
    list_name: str = Field(default="", description="Name of the list, or the string that it was grown from.")
    scores: SearchScores = Field(description="Scores of the search.")
    reaction: float = Field(description="C on the verifying prompts, in nats per carrier.")
    base_ratio: float = Field(description="The base's own reaction there, as a share of the fine-tuned model's.")
    changed: int = Field(ge=0, description="Number of verifying prompts whose answer begins differently.")
    prompts: int = Field(ge=1, description="Number of verifying prompts.")
    fires_in: tuple[ContextName, ...] = Field(default=(), description="Contexts in which it reacts.")
    neighbours: tuple[Neighbours, ...] = Field(default=(), description="Variants that were tried.")
    answers: tuple[FoundAnswer, ...] = Field(default=(), description="Some answers.")


class SearchedSource(Frozen):
    """How many strings of one list were tried."""

    origin: Origin = Field(description="Where they come from.")
    name: str = Field(description="Name of the list.")
    strings: int = Field(ge=0, description="Number of distinct strings.")
    digest: str = Field(default="", description="Digest of a shipped list.")


class LargestReaction(Frozen):
    """The string with the largest reaction, whether or not it was verified."""

    string: str
    context: ContextName
    reaction: float = Field(description="C of the next token, in nats per carrier.")


class SearchResult(Frozen):
    """The result of a search. That nothing was found never means that there is nothing."""

    budget: Budget = Field(description="The budget.")
    found: tuple[FoundString, ...] = Field(description="Verified strings, the largest reaction first.")
    searched: tuple[SearchedSource, ...] = Field(description="What was tried, by list.")
    contexts: tuple[ContextName, ...] = Field(description="Where in the prompt.")
    carriers: int = Field(ge=1, description="Number of prompts that the search used; no gate reads them.")
    largest: LargestReaction | None = Field(description="The largest reaction seen.")
    background: float = Field(description="The largest reaction of a random string, in nats per carrier.")
    rejected: int = Field(default=0, ge=0, description="Number of candidates that were not verified.")
    tokens: int = Field(ge=0, description="Tokens run through either model, scaled by the share of blocks run.")
    seconds: float = Field(ge=0, description="Seconds of all attempts.")
