"""Artifacts over HTTP: the folders that an audit left beside its report."""

from typing import Literal

from pydantic import Field

from service.http.schemas import Out

ArtifactKind = Literal["dictionary", "directions", "measurements", "activations"]


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
