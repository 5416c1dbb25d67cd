"""Responses of the health checks."""

from typing import Literal

from pydantic import Field

from service.http.schemas import Out


class Alive(Out):
    """The process responds."""

    status: Literal["alive"]
    method_version: str = Field(description="Version of the audit method; reports name the one that produced them.")


class Ready(Out):
    """Ledger, broker and models root respond."""

    status: Literal["ready"]
