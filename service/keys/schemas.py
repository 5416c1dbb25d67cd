"""API keys over HTTP: requests and responses."""

from datetime import datetime
from typing import Annotated, Final, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from jobs.keys import SCOPES, KeyRecord, Scope
from service.http.schemas import Out

T = TypeVar("T")

_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9 ._@/-]*$"


def _distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    if len(set(values)) != len(values):
        raise ValueError("must be distinct")
    return values


class KeySpec(BaseModel):
    """The API key to create."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=_NAME)] = Field(
        description="What the key is for."
    )
    scopes: Annotated[
        tuple[Scope, ...],
        Field(min_length=1, max_length=len(SCOPES), json_schema_extra={"uniqueItems": True}),
        AfterValidator(_distinct),
    ] = Field(description="What the key may do; `admin` includes all other scopes.")
    owner: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=_NAME)] | None = Field(
        default=None, description="The owner whose audits it can see and submit; by default the caller's."
    )
    expires_in_s: int | None = Field(
        default=None,
        ge=1,
        le=10 * 366 * 86_400,
        description="Seconds until it expires; null for never.",
    )


class KeyOut(Out):
    """One API key, without its secret text."""

    id: str
    owner: str
    name: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None = Field(description="When it expires; null if it does not.")
    revoked_at: datetime | None = Field(description="When it was revoked; null if it was not.")

    @classmethod
    def of(cls, record: KeyRecord) -> Self:
        """The response form of ``record``."""
        return cls(
            id=record.id,
            owner=record.owner,
            name=record.name,
            scopes=tuple(sorted(record.scopes)),
            created_at=record.created_at,
            expires_at=record.expires_at,
            revoked_at=record.revoked_at,
        )


class KeyCreated(KeyOut):
    """A new API key; ``key`` is shown only once."""

    key: str


class KeyList(Out):
    """Keys of every owner, newest first."""

    keys: tuple[KeyOut, ...]
