"""The settings that the API and the workers share, read once by an entry point and passed inward."""

from pathlib import Path
from typing import Annotated, Any, Final, Self
from urllib.parse import quote

from pydantic import Field, StringConstraints, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from backdoor_audit.contract.faults import words_of
from common.broker_address import parse_broker_url
from common.database_address import parse_database_url

ENV_PREFIX: Final = "BACKDOOR_AUDIT_"


class InvalidSettings(Exception):
    """A setting is missing or not valid; the message names it and never repeats its value."""


class CommonSettings(BaseSettings):
    """Frozen. Each field is an environment variable: ``BACKDOOR_AUDIT_`` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    data_dir: Path = Field(description="Artifacts, caches and, by default, the ledger and the broker's socket.")
    models_root: Path = Field(description="Where local: references are looked up; never written to.")
    database_url: str = Field(
        default_factory=lambda data: f"sqlite:///{data['data_dir']}/ledger.sqlite3",
        description="The ledger: sqlite:///file or postgresql://…",
    )
    broker_url: str = Field(
        default_factory=lambda data: f"redis+socket://{quote(str(data['data_dir']))}/broker/valkey.sock",
        description="Redis or Valkey: redis://…, rediss://… (TLS; takes `?ssl_ca_certs=…` and its kin) or "
        "redis+socket:///path.",
    )
    artifacts_url: str = Field(
        default_factory=lambda data: f"{data['data_dir']}/audits",
        description="Where audits' artifacts are kept: a folder or file:// address that API and workers all see, or "
        "an object store: s3://, gs://, az://.",
    )
    hub_dir: Path | None = Field(default=None, description="A Hugging Face hub cache for hf: references.")
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
        default=200, gt=0, description="Maximum size of one registered version to download, GiB."
    )
    lease_s: float = Field(default=60, gt=0, description="Seconds after which a claim without a heartbeat expires.")
    requeue_after_s: float = Field(
        default=60,
        gt=0,
        description="Seconds after which a worker sends a waiting queued audit to the broker again.",
    )

    @field_validator("data_dir", "models_root", "hub_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @field_validator("database_url")
    @classmethod
    def _is_a_database(cls, value: str) -> str:
        parse_database_url(value)
        return value

    @field_validator("broker_url")
    @classmethod
    def _is_a_broker(cls, value: str) -> str:
        parse_broker_url(value)
        return value

    @field_validator("allowed_organisations", "mlflow_models", mode="before")
    @classmethod
    def _comma_separated(cls, value: Any) -> Any:
        return frozenset(split_commas(value)) if isinstance(value, str) else value

    @classmethod
    def load(cls, **values: Any) -> Self:
        """Read the environment; ``values`` take precedence.

        Raises:
            InvalidSettings: a setting is missing or not valid.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            # An error that involves two settings names them itself.
            problems = "; ".join(
                (f"{ENV_PREFIX}{'_'.join(map(str, item['loc'])).upper()}: " if item["loc"] else "") + words_of(item)
                for item in error.errors()
                if item["type"] != "default_factory_not_called"  # missing settings are already named
            )
            raise InvalidSettings(f"invalid settings: {problems}") from None

    @property
    def store_dir(self) -> Path:
        """Where ``store:`` models are kept."""
        return self.data_dir / "store"

    @property
    def mlflow_limit_bytes(self) -> int:
        """``mlflow_limit_gb`` in bytes."""
        return int(self.mlflow_limit_gb * 2**30)


def split_commas(text: str) -> tuple[str, ...]:
    """Return the parts of a comma-separated list."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
