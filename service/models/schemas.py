"""Models over HTTP: the checkpoints that audits can name, and what has arrived of an upload."""

from typing import Literal

from pydantic import Field

from service.http.schemas import Out


class ModelOut(Out):
    """A checkpoint that audits can name."""

    reference: str
    name: str
    kind: Literal["full", "lora"] | None = Field(description="Null where the checkpoint is refused.")
    architecture: str | None = Field(description="Null for adapters.")
    size_bytes: int = Field(ge=0)
    digest: str | None = Field(description="Null until the model was used once.")
    refused: str | None = Field(description="Why an audit of it would be refused; null where it would not.")


class ModelList(Out):
    """What the store can see."""

    models: tuple[ModelOut, ...]


class UploadedFile(Out):
    """What is there of a file that is being uploaded."""

    model: str
    path: str
    offset: int = Field(ge=0, description="Bytes that are there.")
    complete: bool
    sha256: str | None = Field(description="Hexadecimal digest of a complete file.")
