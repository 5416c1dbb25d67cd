"""The settings of a worker, read once by the entry point and passed inward."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from common.settings import CommonSettings, InvalidSettings
from storage.locations import is_object_store
from worker.errors import SettingsError

_GIB = 1024**3


class WorkerSettings(CommonSettings):
    """The settings of one worker process."""

    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = Field(
        default="auto",
        description="The one device of this worker: auto, cpu, cuda or cuda:N; auto is CUDA where torch sees it.",
    )
    device_map: Literal["single", "auto"] = Field(
        default="single",
        description="auto keeps weights that do not fit on the device on other GPUs and in the machine's memory.",
    )
    cache_gb: float = Field(default=20, gt=0, description="Size of the cache of base activations, GiB.")
    heartbeat_s: float = Field(
        default=15,
        gt=0,
        description="Seconds between renewals of a lease, at most half of LEASE_S; also the longest delay of a cancel.",
    )
    reap_s: float = Field(default=10, gt=0, description="Seconds between searches for lost audits.")
    max_attempts: int = Field(
        default=3,
        ge=1,
        description="Number of lost attempts after which an audit fails as `worker_lost`; shutdowns do not count.",
    )
    max_deadline_s: float = Field(
        default=86_400,
        gt=0,
        description="Seconds that any audit may take, waits between attempts included; a spec's `deadline_s` can only "
        "shorten that.",
    )
    shutdown_grace_s: float = Field(
        default=20,
        ge=0,
        description="Seconds that a running audit has to stop after SIGTERM before its process is killed.",
    )
    interrupt_grace_s: float = Field(
        default=30,
        ge=0,
        description="Seconds before the process of a cancelled or overdue audit is killed.",
    )
    sandbox_memory_gb: float | None = Field(
        default=None,
        gt=0,
        description="Memory limit of an audit on a CPU, GiB; by default nine tenths of the machine's or the "
        "container's. No limit with a GPU.",
    )
    sandbox_file_gb: float = Field(default=256, gt=0, description="Size limit of each file that an audit writes, GiB.")

    @model_validator(mode="after")
    def _lease_outlives_heartbeats(self) -> Self:
        if self.heartbeat_s * 2 > self.lease_s:
            raise ValueError("heartbeat_s must be at most half of lease_s, so that one late heartbeat loses nothing")
        return self

    @classmethod
    def load(cls, **values: Any) -> Self:
        """Read the environment; ``values`` take precedence.

        Raises:
            SettingsError: a setting is missing or not valid.
        """
        try:
            return super().load(**values)
        except InvalidSettings as error:
            raise SettingsError(str(error)) from None

    @property
    def sandbox_records(self) -> Path:
        """Where running sandboxes are written down; shared by the workers of one data folder."""
        return self.data_dir / "sandboxes"

    @property
    def workspaces(self) -> str:
        """Where audits are worked on: where artifacts are kept, or a local folder if that is an object store."""
        return str(self.data_dir / "work") if is_object_store(self.artifacts_url) else self.artifacts_url

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
        """``sandbox_memory_gb`` in bytes; None if the machine decides."""
        return None if self.sandbox_memory_gb is None else int(self.sandbox_memory_gb * _GIB)

    @property
    def sandbox_file_bytes(self) -> int:
        """``sandbox_file_gb`` in bytes."""
        return int(self.sandbox_file_gb * _GIB)
