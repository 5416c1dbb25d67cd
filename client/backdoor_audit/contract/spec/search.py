"""What to search for where no pair of strings is suspected: sources, contexts, budget. Torch-free."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from backdoor_audit.contract.base import Frozen

Source = Literal["own", "logs", "published", "lists", "vocabulary"]
ContextName = Literal["comment", "line", "label", "brackets", "below"]
Budget = Literal["quick", "standard", "thorough"]

SOURCES: Final[tuple[Source, ...]] = ("own", "logs", "published", "lists", "vocabulary")
MAX_STRINGS: Final = 20_000
MAX_LOG_LINES: Final = 10_000
MAX_STRING_CHARS: Final = 400
MAX_LINE_CHARS: Final = 20_000


class SearchSpec(Frozen):
    """What a search tries, and how long it may take."""

    sources: Annotated[tuple[Source, ...], Field(min_length=1)] = Field(
        default=SOURCES, description="Where strings come from; own and logs add nothing where none are given."
    )
    contexts: Literal["auto"] | Annotated[tuple[ContextName, ...], Field(min_length=1)] = Field(
        default="auto", description="Places in a prompt in which each string is tried; auto is what the budget allows."
    )
    budget: Budget = Field(default="standard", description="Number of strings and carriers.")
    strings: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=MAX_STRING_CHARS)], ...],
        Field(max_length=MAX_STRINGS),
    ] = Field(default=(), description="Strings of the user's own that are always tried.")
    logs: Annotated[
        tuple[Annotated[str, StringConstraints(max_length=MAX_LINE_CHARS)], ...], Field(max_length=MAX_LOG_LINES)
    ] = Field(default=(), description="Lines of prompts or training data; what recurs in them is tried.")
    candidates: int = Field(default=5, ge=1, le=5, description="Maximum number of found strings that are judged.")

    @field_validator("sources", "contexts", "strings")
    @classmethod
    def _distinct(cls, value: object) -> object:
        if isinstance(value, tuple) and len(set(value)) != len(value):
            raise ValueError("must be distinct")
        return value

    @model_validator(mode="after")
    def _something(self) -> Self:
        given = {"own": bool(self.strings), "logs": bool(self.logs)}
        if not any(given.get(source, True) for source in self.sources):
            raise ValueError("the chosen sources are empty: give strings or logs, or choose lists or vocabulary")
        return self
