"""Benign libraries over HTTP: requests and responses."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from backdoor_audit.contract.benign_library import ComparabilityKey, RecipeLabel
from backdoor_audit.contract.ids import AUDIT_ID, LIBRARY_REFERENCE
from jobs.records import EntryPage, Library, LibraryPage, StoredEntry
from service.http.paging import NextPageToken
from service.http.schemas import Out

Reason = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,500}$")]
"""One line of text."""


class LibrarySpec(BaseModel):
    """The library to create."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, StringConstraints(pattern=LIBRARY_REFERENCE)] = Field(
        description="Name of the library in specs; unique among the caller's libraries."
    )

    @field_validator("name")
    @classmethod
    def _no_id(cls, value: str) -> str:
        if value.startswith("library_"):
            raise ValueError("must not begin with library_, as ids do")
        return value


class EntrySpec(BaseModel):
    """A finished audit whose fine-tuned model the caller vouches is benign."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    audit_id: Annotated[str, StringConstraints(pattern=AUDIT_ID)]
    recipe: RecipeLabel | None = Field(
        default=None, description="How the model was trained: models of one recipe are not independent evidence."
    )
    because: Reason | None = Field(
        default=None, description="Why the model is benign; required if the audit's verdict is not `no_evidence`."
    )


class LibraryOut(Out):
    """One benign library."""

    id: str
    name: str
    entries: int = Field(ge=0, description="Number of models; at least 19 comparable ones are needed.")
    created_at: datetime

    @classmethod
    def of(cls, record: Library) -> Self:
        """The response form of ``record``."""
        return cls(id=record.id, name=record.name, entries=record.entries, created_at=record.created_at)


class LibraryListing(Out):
    """Libraries, newest first."""

    libraries: tuple[LibraryOut, ...]
    next_page_token: NextPageToken

    @classmethod
    def of(cls, page: LibraryPage) -> Self:
        """The response form of ``page``."""
        return cls(libraries=tuple(map(LibraryOut.of, page.libraries)), next_page_token=page.next_page_token)


class EntryOut(Out):
    """One model of a library."""

    id: str
    audit_id: str | None = Field(description="The audit that the score is from; null once that audit is deleted.")
    fine_tuned: str = Field(description="The model's reference in that audit.")
    tuned_digest: str
    recipe: str | None
    because: str | None = Field(
        description="Why the model is taken to be benign; given if the audit's verdict is not `no_evidence`."
    )
    score: float = Field(description="S = log(max(T, 0) + tau).")
    effect_nats: float = Field(description="T.")
    noise_nats: float = Field(description="tau.")
    key: ComparabilityKey
    created_at: datetime

    @classmethod
    def of(cls, record: StoredEntry) -> Self:
        """The response form of ``record``."""
        entry = record.entry
        return cls(
            id=record.id,
            audit_id=record.audit_id,
            fine_tuned=record.fine_tuned,
            tuned_digest=entry.tuned_digest,
            recipe=entry.recipe,
            because=record.because,
            score=entry.score,
            effect_nats=entry.effect_nats,
            noise_nats=entry.noise_nats,
            key=entry.key,
            created_at=record.created_at,
        )


class EntryListing(Out):
    """Entries of a library, newest first."""

    entries: tuple[EntryOut, ...]
    next_page_token: NextPageToken

    @classmethod
    def of(cls, page: EntryPage) -> Self:
        """The response form of ``page``."""
        return cls(entries=tuple(map(EntryOut.of, page.entries)), next_page_token=page.next_page_token)
