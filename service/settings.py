"""The settings of the API, read once by ``python -m service`` and passed inward."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, IPvAnyNetwork, SecretStr, StringConstraints, field_validator, model_validator
from pydantic_settings import NoDecode

from common.settings import CommonSettings, InvalidSettings, split_commas
from service.errors import StartupError
from service.http.public_url import PublicUrl
from service.webhooks.secrets import KEY_COMMAND, SecretBox


class Settings(CommonSettings):
    """The settings of one process of the API."""

    host: str = Field(default="127.0.0.1", min_length=1, description="The address to bind to.")
    port: int = Field(default=8000, ge=0, le=65_535, description="The port to bind to; 0 takes a free one.")
    listen_fd: int | None = Field(
        default=None, ge=3, description="File descriptor of a bound socket; overrides host and port."
    )
    require_keys: bool = Field(
        default=False,
        description="Require API keys even on a loopback address or a unix socket; on other addresses they always are.",
    )
    mlflow_tags: bool = Field(default=False, description="Write verdicts back as tags of registered versions.")
    mlflow_event_secret: SecretStr | None = Field(
        default=None, min_length=8, description="Secret of MLflow's webhook; without it, no events are accepted."
    )
    mlflow_audits: Path | None = Field(
        default=None, description="JSON file: the audit to submit for a new version of each registered model."
    )
    mlflow_owner: str = Field(
        default="local", min_length=1, max_length=255, description="Owner of the audits of new versions."
    )
    public_url: Annotated[str, StringConstraints(pattern=r"^https?://[^@\s?#]+$")] | None = Field(
        default=None,
        description="Address at which people reach this service, through a proxy for example: decides links and their "
        "path, the cookie's security, and the origin of the service's own pages.",
    )
    upload_limit_gb: float = Field(default=200, gt=0, description="Maximum size of one uploaded checkpoint, GiB.")
    upload_min_free_gb: float = Field(
        default=2, ge=0, description="What uploads leave free on the data folder's disk, GiB."
    )
    models_per_owner_gb: float = Field(
        default=500,
        gt=0,
        description="Maximum size of one owner's models in the store and uploads together, GiB; more are refused with "
        "413.",
    )
    models_total_gb: float | None = Field(
        default=None,
        gt=0,
        description="Maximum size of all models in the store and uploads together, GiB; more are refused with 507. By "
        "default nine tenths of the data folder's disk.",
    )
    commit_patience_s: float = Field(
        default=2,
        ge=0,
        le=60,
        description="Seconds after which the commit of an upload that is still being checked is answered with 202.",
    )
    max_queued: int = Field(
        default=1_000, ge=1, description="Maximum number of queued audits per owner; more are refused with 429."
    )
    requests_per_minute: int = Field(
        default=3_000,
        ge=0,
        description="Maximum number of requests per API key and minute, in each process of the API; more are refused "
        "with 429. 0 for no limit.",
    )
    max_connections: int = Field(
        default=1_000,
        ge=16,
        description="How many connections one process of the API keeps open; fewer where it may not open as many "
        "files. One more takes the place of the one that has kept the API waiting longest.",
    )
    client_patience_s: float = Field(
        default=20,
        ge=1,
        le=600,
        description="Seconds that a client may take for a request's head, and to take more of an answer; for a body "
        "one second more for each kilobyte.",
    )
    streams_per_owner: int = Field(
        default=50,
        ge=1,
        description="How many audits' events one owner may follow at once, in each process of the API; more are "
        "refused with 429.",
    )
    webhook_networks: Annotated[tuple[IPvAnyNetwork, ...], NoDecode] = Field(
        default=(), description="Private networks that webhooks may connect to, also over plain http."
    )
    webhook_ca_file: Path | None = Field(
        default=None,
        description="A PEM file of certificate authorities to trust for webhook receivers, besides the public ones.",
    )
    webhook_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(),
        description="Fernet keys that webhooks' signing secrets are encrypted with in the ledger: the first encrypts, "
        "all decrypt. Without one, secrets are stored unencrypted.",
    )
    webhook_timeout_s: float = Field(default=15, gt=0, le=120, description="Maximum seconds for one webhook attempt.")
    webhook_retry_s: Annotated[tuple[Annotated[float, Field(ge=0)], ...], NoDecode] = Field(
        default=(5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400),
        description="Pauses in seconds before each further webhook attempt.",
    )
    signing_key_file: Path | None = Field(
        default=None,
        description="PEM file with the private key that attestations are signed with; without it the service signs "
        "nothing.",
    )
    startup_wait_s: float = Field(default=30, ge=0, description="Seconds to wait for a database that is starting.")
    shutdown_grace_s: float = Field(default=10, ge=0, description="Seconds that open requests have to finish.")

    @field_validator("webhook_ca_file", "mlflow_audits", "signing_key_file")
    @classmethod
    def _absolute_file(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @field_validator("public_url")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None:
            PublicUrl.of(value)
        return value

    @field_validator("webhook_networks", "webhook_retry_s", "webhook_keys", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return split_commas(value) if isinstance(value, str) else value

    @field_validator("webhook_keys")
    @classmethod
    def _are_keys(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        try:
            SecretBox([key.get_secret_value() for key in value])
        except ValueError:
            raise ValueError(f"must be Fernet keys, separated by commas; this prints one: {KEY_COMMAND}") from None
        return value

    @model_validator(mode="after")
    def _mlflow_is_whole(self) -> Self:
        if (self.mlflow_tags or self.mlflow_event_secret is not None) and self.mlflow_tracking_uri is None:
            raise ValueError("MLFLOW_TAGS and MLFLOW_EVENT_SECRET need MLFLOW_TRACKING_URI")
        if self.mlflow_event_secret is not None and self.mlflow_audits is None:
            raise ValueError("MLFLOW_EVENT_SECRET needs MLFLOW_AUDITS: without it no new version would be audited")
        return self

    @classmethod
    def load(cls, **values: Any) -> Self:
        """Read the environment; ``values`` take precedence.

        Raises:
            StartupError: a setting is missing or not valid.
        """
        try:
            return super().load(**values)
        except InvalidSettings as error:
            raise StartupError(str(error)) from None
