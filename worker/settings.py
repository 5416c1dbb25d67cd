"""What a worker is told by its environment. Read once, by the entry point, and passed inward."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models_store.sources.mlflow_registry import MlflowRegistry
from storage.locations import is_object_store
from worker.errors import SettingsError

_GIB = 1024**3


class WorkerSettings(BaseSettings):
    """The settings of one worker process; each is ``BACKDOOR_AUDIT_`` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="BACKDOOR_AUDIT_", frozen=True, extra="ignore", env_ignore_empty=True)

    data_dir: Path = Field(description="Artifacts, caches and, by default, the ledger and the broker's socket.")
    models_root: Path = Field(description="Where local: references are looked up; never written to.")
    database_url: str = Field(default="", description="The ledger: sqlite:///file or postgresql://…")
    broker_url: str = Field(default="", description="Redis or Valkey: redis://…, rediss://… or redis+socket:///path.")
    artifacts_url: str = Field(
        default="",
        description="Where audits' artifacts lie: a folder or file:// address that API and workers all see, or "
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
        default=200, gt=0, description="The most that is fetched of one registered version, GiB."
    )
    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = Field(
        default="auto",
        description="The one device of this worker: auto, cpu, cuda or cuda:N; auto is CUDA where torch sees it.",
    )
    device_map: Literal["single", "auto"] = Field(
        default="single",
        description="auto lets weights that do not fit on the device lie on other GPUs and in the machine's memory.",
    )
    cache_gb: float = Field(default=20, gt=0, description="Size of the cache of base activations, GiB.")
    lease_s: float = Field(default=60, gt=0, description="Seconds after which a claim without a heartbeat ends.")
    heartbeat_s: float = Field(
        default=15,
        gt=0,
        description="Seconds between renewals of a lease, at most half of it; a cancel is heard no later.",
    )
    reap_s: float = Field(default=10, gt=0, description="Seconds between looks for lost audits.")
    requeue_after_s: float = Field(
        default=60,
        gt=0,
        description="A queued audit that has waited this many seconds is sent to the broker again, by a worker.",
    )
    max_attempts: int = Field(
        default=3,
        ge=1,
        description="Lost attempts after which an audit fails as `worker_lost`; shutdowns do not count.",
    )
    shutdown_grace_s: float = Field(
        default=20,
        ge=0,
        description="Seconds that a running audit has for ending at SIGTERM, before its process is killed.",
    )
    interrupt_grace_s: float = Field(
        default=30, ge=0, description="Seconds that a cancelled or overdue audit has, before its process is killed."
    )
    sandbox_memory_gb: float | None = Field(
        default=None,
        gt=0,
        description="Limit of an audit's memory on a CPU, GiB; by default nine tenths of the machine's or the "
        "container's. None where a GPU is used.",
    )
    sandbox_file_gb: float = Field(default=256, gt=0, description="Limit of one file that an audit writes, GiB.")

    @field_validator("allowed_organisations", "mlflow_models", mode="before")
    @classmethod
    def _comma_separated(cls, value: Any) -> Any:
        if isinstance(value, str):
            return frozenset(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("data_dir", "models_root", "hub_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @model_validator(mode="after")
    def _lease_outlives_heartbeats(self) -> "WorkerSettings":
        if self.heartbeat_s * 2 > self.lease_s:
            raise ValueError("heartbeat_s must be at most half of lease_s, so that one late heartbeat loses nothing")
        return self

    @classmethod
    def load(cls, **values: Any) -> "WorkerSettings":
        """Read the environment; ``values`` go before it.

        Raises:
            SettingsError: a setting is missing or not valid; the message names it and never repeats its value.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, item['loc'])) or 'settings'}: {item['msg']}" for item in error.errors()
            )
            raise SettingsError(f"the settings of the worker are not usable: {problems}") from error

    @property
    def ledger_url(self) -> str:
        """``database_url``, or the SQLite file in the data folder."""
        return self.database_url or f"sqlite:///{self.data_dir / 'ledger.sqlite3'}"

    @property
    def queue_url(self) -> str:
        """``broker_url``, or the socket of the bundled broker in the data folder."""
        return self.broker_url or f"redis+socket://{self.data_dir / 'broker' / 'valkey.sock'}"

    @property
    def artifacts(self) -> str:
        """``artifacts_url``, or the folder of audits in the data folder."""
        return self.artifacts_url or str(self.data_dir / "audits")

    @property
    def workspaces(self) -> str:
        """Where audits are worked on: where artifacts are kept, or a local folder where that is an object store."""
        return str(self.data_dir / "work") if is_object_store(self.artifacts) else self.artifacts

    @property
    def registry(self) -> MlflowRegistry | None:
        """The registry of ``mlflow_tracking_uri``; None where none is set."""
        if self.mlflow_tracking_uri is None:
            return None
        return MlflowRegistry(
            self.mlflow_tracking_uri, allowed_models=self.mlflow_models, limit_bytes=int(self.mlflow_limit_gb * _GIB)
        )

    @property
    def store_dir(self) -> Path:
        """Where ``store:`` models lie."""
        return self.data_dir / "store"

    @property
    def cache_dir(self) -> Path:
        """Where base activations are kept from one audit to the next."""
        return self.data_dir / "cache" / "base"

    @property
    def cache_bytes(self) -> int:
        """``cache_gb`` in bytes."""
        return int(self.cache_gb * _GIB)

    @property
    def sandbox_memory_bytes(self) -> int | None:
        """``sandbox_memory_gb`` in bytes; None where the machine decides."""
        return None if self.sandbox_memory_gb is None else int(self.sandbox_memory_gb * _GIB)

    @property
    def sandbox_file_bytes(self) -> int:
        """``sandbox_file_gb`` in bytes."""
        return int(self.sandbox_file_gb * _GIB)
