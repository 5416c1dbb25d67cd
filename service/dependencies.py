"""The components that the service uses, opened once per process and shared by all requests."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from fastapi import Depends, Request

from backdoor_audit.attestations.key_files import EnvelopeSigner
from backdoor_audit.client.errors import WrongUsage
from jobs.ledger import Ledger
from models_store.store import ModelsStore
from service.audits.durations import Durations
from service.errors import StartupError
from service.mlflow.plans import AuditPlans
from service.settings import Settings
from service.webhooks.secrets import SecretBox
from storage.locations import Artifacts, open_artifacts
from worker.dispatch import Dispatcher


@dataclass(frozen=True)
class Dependencies:
    """Ledger, broker, models, artifacts, plans, durations and the keys of secrets."""

    settings: Settings
    ledger: Ledger
    dispatcher: Dispatcher
    models: ModelsStore
    artifacts: Artifacts
    plans: AuditPlans | None
    """Which audits to run for new versions of registered models; None if none are configured."""
    durations: Durations
    secrets: SecretBox
    """Encrypts the signing secrets of webhooks."""
    signer: EnvelopeSigner | None
    """Signs attestations; None if the operator has set no key."""

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Open all components; connections are made when they are first needed.

        Raises:
            StartupError: the file of plans or the signing key is not usable.
        """
        ledger = Ledger(
            settings.database_url,
            lease_s=settings.lease_s,
            requeue_after_s=settings.requeue_after_s,
            max_queued=settings.max_queued,
        )
        return cls(
            settings=settings,
            ledger=ledger,
            dispatcher=Dispatcher(settings.broker_url),
            models=ModelsStore.from_settings(
                settings,
                upload_limit_bytes=int(settings.upload_limit_gb * 2**30),
                upload_min_free_bytes=int(settings.upload_min_free_gb * 2**30),
                owner_limit_bytes=int(settings.models_per_owner_gb * 2**30),
                total_limit_bytes=None if settings.models_total_gb is None else int(settings.models_total_gb * 2**30),
            ),
            artifacts=open_artifacts(settings.artifacts_url),
            plans=None if settings.mlflow_audits is None else AuditPlans.load(settings.mlflow_audits),
            durations=Durations(ledger),
            secrets=SecretBox([key.get_secret_value() for key in settings.webhook_keys]),
            signer=_signer(settings.signing_key_file),
        )

    def close(self) -> None:
        """Close the connections."""
        self.dispatcher.close()
        self.ledger.close()


def _signer(key: Path | None) -> EnvelopeSigner | None:
    try:
        return None if key is None else EnvelopeSigner.load(key)
    except WrongUsage as error:
        raise StartupError(f"SIGNING_KEY_FILE: {error.message}") from error


async def get_dependencies(request: Request) -> Dependencies:
    """The components of the application that handles ``request``."""
    dependencies: Dependencies = request.app.state.dependencies
    return dependencies


DependenciesDep = Annotated[Dependencies, Depends(get_dependencies)]
