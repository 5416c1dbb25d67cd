"""What all responses have in common, and the problem that every error becomes.

No field of a response has a default: a client sees every field in every response. The one exception is
``next_page_token`` (``service.http.paging``), which is absent on the last page.
"""

from pydantic import BaseModel, ConfigDict, Field

from service.errors import Place


class Out(BaseModel):
    """Base class of all responses."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ProblemItem(Out):
    """One error in a problem."""

    place: Place = Field(alias="in", description="The part of the request, or of the service, that this concerns.")
    pointer: str = Field(description="JSON pointer into that part, in URI fragment form.")
    detail: str = Field(description="What is wrong there.")


class Problem(Out):
    """An error (RFC 9457). Never contains what the client sent."""

    type: str = Field(description="URN of the problem type.")
    title: str
    status: int
    code: str = Field(description="Short name of the problem, for programs.")
    detail: str
    instance: str | None = Field(description="Only for internal errors: the id under which the service logged it.")
    errors: tuple[ProblemItem, ...]
