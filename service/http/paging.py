"""How listings are paged: the parameters that a request may give, and the field that leads to the next page."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query
from pydantic import Field


@dataclass(frozen=True)
class Paging:
    """The page that a request asks for.

    Attributes:
        page_token: ``next_page_token`` of the page before; None for the first.
        page_size: the most items that the page may have.
    """

    page_token: Annotated[
        str | None, Query(max_length=1024, description="`next_page_token` of the previous page, same filters.")
    ] = None
    page_size: Annotated[int, Query(ge=1, le=200, description="Items per page.")] = 50


PagingDep = Annotated[Paging, Depends()]


def _is_last(next_page_token: str | None) -> bool:
    return next_page_token is None


NextPageToken = Annotated[str | None, Field(exclude_if=_is_last, description="Absent on the last page.")]
"""The one field of an answer that may be absent."""
