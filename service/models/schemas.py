"""Models over HTTP: the checkpoints that audits can name, and the state of uploads."""

from typing import Literal

from pydantic import Field

from service.http.schemas import Out


class ModelOut(Out):
    """A checkpoint that audits can name."""

    reference: str
    name: str
    kind: Literal["full", "lora"] | None = Field(description="Null if the checkpoint is rejected.")
    architecture: str | None = Field(description="Null for adapters.")
    size_bytes: int = Field(ge=0)
    digest: str | None = Field(description="Null until the model has been used once.")
    refused: str | None = Field(description="Why an audit of it would be rejected; null if it would not.")


class ModelList(Out):
    """The models that the store can see."""

    models: tuple[ModelOut, ...]


class CommitUnderWay(Out):
    """An upload whose files are being read and checked."""

    name: str
    status: Literal["checking"]


class UploadedFile(Out):
    """How much of an uploaded file has arrived."""

    model: str
    path: str
    offset: int = Field(ge=0, description="Bytes received so far.")
    complete: bool
    sha256: str | None = Field(
        description="Hexadecimal digest of a complete file; null if the commit has yet to compute it."
    )
