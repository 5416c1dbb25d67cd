"""Artifacts over HTTP: the folders that an audit produced besides its report."""

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
    """A folder of files that an audit produced."""

    name: str
    kind: ArtifactKind = Field(
        description="`dictionary` is a folder in SAELens' layout with `quality.json` beside it (variance explained, "
        "L0, dead latents); `directions` the attribution subspaces; `measurements` the numbers behind the gates; "
        "`activations` what `keep_activations` kept."
    )
    size_bytes: int = Field(ge=0)
    files: tuple[ArtifactFile, ...]


class ArtifactList(Out):
    """All artifacts of an audit that can be downloaded."""

    artifacts: tuple[ArtifactOut, ...]
