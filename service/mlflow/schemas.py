"""Events of MLflow's model registry over HTTP: requests and responses."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from service.http.schemas import Out


class RegisteredVersionIn(BaseModel):
    """The version that an event is about; MLflow may send more fields."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field(min_length=1, max_length=256, description="The registered model.")
    version: str = Field(min_length=1, max_length=10, description="The number of the version.")
    source: str | None = Field(default=None, description="Location of its files.")
    run_id: str | None = Field(default=None, description="The run that produced it.")
    tags: dict[str, str] | None = Field(
        default=None,
        description="Tags set at creation; `backdoor_audit.base_model`, `.triggered`, `.clean` and `.template` "
        "fill in what the operator's plan leaves out.",
    )


class RegistryEvent(BaseModel):
    """An event of MLflow's registry, as its webhooks send it; only new versions are acted on."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    entity: str = Field(max_length=100, description="`model_version`.")
    action: str = Field(max_length=100, description="`created`.")
    timestamp: str | None = Field(default=None, description="Time of sending.")
    data: dict[str, Any] = Field(description="For a new version: `name`, `version`, `source`, `run_id`, `tags`.")


class RegistryEventOut(Out):
    """The result of an event."""

    audit_id: str | None = Field(description="The audit of the new version; null if none was submitted.")
    reason: str | None = Field(description="Why none was submitted; null if one was.")
