"""What can be done with models of the store, beyond one call of it."""

from models_store.errors import ModelInUse
from service.dependencies import Dependencies


def delete_model(dependencies: Dependencies, name: str) -> None:
    """Remove a model of the store, or an unfinished upload.

    Raises:
        ModelInUse: an unfinished audit names it.
        ModelNotFound, UploadBusy, InvalidReference: as their names say.
    """
    if dependencies.ledger.uses(f"store:{name}"):
        raise ModelInUse("an unfinished audit names this model", hint="cancel it, or wait until it has ended")
    dependencies.models.remove(name)
