"""What every attempt of one worker shares."""

from dataclasses import dataclass

from jobs.ledger import Ledger
from models_store.store import ModelsStore
from storage.artifacts import ArtifactStore
from storage.objects import ObjectArtifacts
from worker.sandbox.orphans import Orphans
from worker.settings import WorkerSettings
from worker.shutdown import Shutdown


@dataclass(frozen=True)
class WorkerContext:
    """Made once, by the entry point."""

    settings: WorkerSettings
    ledger: Ledger
    models: ModelsStore
    artifacts: ArtifactStore
    shutdown: Shutdown
    orphans: Orphans | None = None
    """Processes that earlier sandboxes of this worker left; None if it does not ask for them."""
    published: ObjectArtifacts | None = None
    """The object store that artifacts end up in; None if that is the folder that audits are worked on in."""
