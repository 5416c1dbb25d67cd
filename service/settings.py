"""What the operator sets, read from the environment once, by ``python -m service``."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    Field,
    IPvAnyNetwork,
    SecretStr,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models_store.sources.mlflow_registry import MlflowRegistry
from service.errors import StartupError


class Settings(BaseSettings):
    """Frozen. Each field is also an environment variable: ``BACKDOOR_AUDIT_`` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="BACKDOOR_AUDIT_", frozen=True, extra="ignore", env_ignore_empty=True)

    data_dir: Path = Field(description="Artifacts, caches and, by default, the ledger and the broker's socket.")
    models_root: Path = Field(description="Where local: references are looked up; never written to.")
    database_url: str = Field(
        default_factory=lambda data: f"sqlite:///{data['data_dir']}/ledger.sqlite3",
        description="The ledger: sqlite:///file or postgresql://…",
    )
    broker_url: str = Field(
        default_factory=lambda data: f"redis+socket://{data['data_dir']}/broker/valkey.sock",
        description="Redis or Valkey: redis://…, rediss://… or redis+socket:///path.",
    )
    artifacts_url: str = Field(
        default_factory=lambda data: f"{data['data_dir']}/audits",
        description="Where audits' artifacts lie: a folder or file:// address that API and workers all see, or "
        "an object store: s3://, gs://, az://.",
    )
    host: str = Field(default="127.0.0.1", min_length=1, description="The address to bind to.")
    port: int = Field(default=8000, ge=0, le=65_535, description="The port to bind to; 0 takes a free one.")
    listen_fd: int | None = Field(
        default=None, ge=3, description="A bound socket that was opened before; wins over host and port."
    )
    require_keys: bool = Field(
        default=False,
        description="Ask for API keys on a loopback address or a unix socket, too; elsewhere they always are.",
    )
    hub_dir: Path | None = Field(default=None, description="A Hugging Face hub cache for hf: references.")
    lease_s: float = Field(default=60, gt=0, description="Seconds after which a claim without a heartbeat ends.")
    requeue_after_s: float = Field(
        default=60,
        gt=0,
        description="A queued audit that has waited this many seconds is sent to the broker again, by a worker.",
    )
    offline: bool = Field(
        default=True, description="Never download; what hf: and mlflow: references name must have been fetched before."
    )
    allowed_organisations: Annotated[frozenset[str], NoDecode] = Field(
        default=frozenset(), description="Hub organisations that hf: references may name."
    )
    mlflow_tracking_uri: Annotated[str, StringConstraints(pattern=r"^https?://[^@\s]+$")] | None = Field(
        default=None, description="Address of the MLflow server whose registry mlflow: references name."
    )
    mlflow_models: Annotated[frozenset[str], NoDecode] = Field(
        default=frozenset(),
        description="Registered models that mlflow: references may name; `*` is any text.",
    )
    mlflow_limit_gb: float = Field(
        default=200, gt=0, description="The most that is fetched of one registered version, GiB."
    )
    mlflow_tags: bool = Field(default=False, description="Write verdicts back as tags of registered versions.")
    mlflow_event_secret: SecretStr | None = Field(
        default=None, min_length=8, description="What MLflow signs its webhook with; without it none is taken."
    )
    mlflow_audits: Path | None = Field(
        default=None, description="JSON file: which audit is filed for a new version of which registered model."
    )
    mlflow_owner: str = Field(
        default="local", min_length=1, max_length=255, description="Whose audits those of new versions are."
    )
    public_url: Annotated[str, StringConstraints(pattern=r"^https?://[^@\s?#]+$")] | None = Field(
        default=None, description="Where people reach this service; reports are linked to there."
    )
    upload_limit_gb: float = Field(
        default=200, gt=0, description="The most that one uploaded checkpoint may have, GiB."
    )
    max_queued: int = Field(
        default=1_000, ge=1, description="How many audits of one owner may wait at once; more are refused with 429."
    )
    requests_per_minute: int = Field(
        default=3_000,
        ge=0,
        description="How many requests one API key may make in a minute, in each process of the API; more are refused "
        "with 429. 0 for any number.",
    )
    webhook_networks: Annotated[tuple[IPvAnyNetwork, ...], NoDecode] = Field(
        default=(), description="Private networks that webhooks may lead to, also over plain http."
    )
    webhook_ca_file: Path | None = Field(
        default=None,
        description="A file of certificates (PEM) that webhooks' receivers may be signed by, beside the public ones.",
    )
    webhook_timeout_s: float = Field(
        default=15, gt=0, le=120, description="Seconds that one attempt at a webhook may take."
    )
    webhook_retry_s: Annotated[tuple[Annotated[float, Field(ge=0)], ...], NoDecode] = Field(
        default=(5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400),
        description="Pauses before each further attempt at a webhook, seconds.",
    )
    startup_wait_s: float = Field(default=30, ge=0, description="Seconds to wait for a database that is starting.")
    shutdown_grace_s: float = Field(default=10, ge=0, description="Seconds that open requests have for ending.")

    @field_validator("data_dir", "models_root", "hub_dir", "webhook_ca_file", "mlflow_audits")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @field_validator("allowed_organisations", "mlflow_models", mode="before")
    @classmethod
    def _separated(cls, value: Any) -> Any:
        if isinstance(value, str):
            return frozenset(name.strip() for name in value.split(",") if name.strip())
        return value

    @field_validator("webhook_networks", "webhook_retry_s", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @model_validator(mode="after")
    def _mlflow_is_whole(self) -> Self:
        if (self.mlflow_tags or self.mlflow_event_secret is not None) and self.mlflow_tracking_uri is None:
            raise ValueError("MLFLOW_TAGS and MLFLOW_EVENT_SECRET need MLFLOW_TRACKING_URI")
        if self.mlflow_event_secret is not None and self.mlflow_audits is None:
            raise ValueError("MLFLOW_EVENT_SECRET needs MLFLOW_AUDITS: without it no new version would be audited")
        return self

    @property
    def registry(self) -> MlflowRegistry | None:
        """The registry of ``mlflow_tracking_uri``; None where none is set."""
        if self.mlflow_tracking_uri is None:
            return None
        return MlflowRegistry(
            self.mlflow_tracking_uri, allowed_models=self.mlflow_models, limit_bytes=int(self.mlflow_limit_gb * 2**30)
        )

    @classmethod
    def load(cls, **values: Any) -> Self:
        """Read the environment; ``values`` go before it.

        Raises:
            StartupError: a setting is missing or not valid; the message names it and never repeats its value.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            # What is wrong between settings names them itself.
            found = "; ".join(
                (f"BACKDOOR_AUDIT_{'_'.join(map(str, item['loc'])).upper()}: " if item["loc"] else "") + item["msg"]
                for item in error.errors()
            )
            raise StartupError(f"the settings are not usable: {found}") from None
