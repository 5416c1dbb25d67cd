"""What goes out about an audit's history and its artifacts."""

from datetime import datetime
from typing import Literal, Self

from pydantic import Field

from backdoor_audit.contract.spec import Stage, Status
from jobs.records import Event, EventKind
from service.schemas import Out

ArtifactKind = Literal["dictionary", "directions", "measurements", "activations"]


class EventOut(Out):
    """One line of an audit's history."""

    audit_id: str
    sequence: int = Field(ge=1, description="Counted from 1 without gaps; the event's id in the stream.")
    kind: EventKind
    at: datetime
    attempt: int = Field(ge=0)
    status: Status
    stage: Stage | None
    progress: float = Field(ge=0, le=1)
    message: str

    @classmethod
    def of(cls, event: Event) -> Self:
        """The outward form of ``event``."""
        return cls.model_validate(vars(event))


class ArtifactFile(Out):
    """One file of an artifact."""

    name: str
    size_bytes: int = Field(ge=0)
    link: str


class ArtifactOut(Out):
    """A folder that an audit left."""

    name: str
    kind: ArtifactKind = Field(
        description="`dictionary` is a folder in SAELens' layout with `quality.json` beside it (variance explained, "
        "L0, dead latents); `directions` the attribution subspaces; `measurements` what the gates were decided on; "
        "`activations` what an audit with `keep_activations` kept."
    )
    size_bytes: int = Field(ge=0)
    files: tuple[ArtifactFile, ...]


class ArtifactList(Out):
    """Everything that an audit left and that can be fetched."""

    artifacts: tuple[ArtifactOut, ...]


class UploadedFile(Out):
    """What is there of a file that is being uploaded."""

    model: str
    path: str
    offset: int = Field(ge=0, description="Bytes that are there.")
    complete: bool
    sha256: str | None = Field(description="Hexadecimal digest of a complete file.")


class Estimate(Out):
    """What an audit would take. Nothing was filed."""

    spec_digest: str = Field(description="As the report's provenance will have it; finds earlier audits.")
    base_digest: str | None = Field(description="Null until the model was used here once.")
    tuned_digest: str | None = Field(description="Null until the model was used here once.")
    sequences: int = Field(ge=0, description="Prompts that the fine-tuned model reads, at most.")
    tokens: int = Field(ge=0, description="Their tokens, from a sample of the prompts.")
    seconds: float | None = Field(
        description="Median of earlier audits of this base with these sizes; null without any."
    )
    disk_gb: float = Field(ge=0, description="Activations on the disk while it runs, at most.")
    weights_gb: float = Field(ge=0, description="Both checkpoints' files.")
    decoys: tuple[str, ...] = Field(description="The decoys that may be drawn, in their order.")
    not_given: tuple[str, ...] = Field(description="What could not be told, and why.")
