"""Use cases for models of the store that need more than one call of it."""

from models_store.errors import ModelInUse
from service.dependencies import Dependencies
from service.http.auth import Caller


def delete_model(dependencies: Dependencies, caller: Caller, name: str) -> None:
    """Remove a model of the store, or an unfinished upload. An administrator also removes other owners' models.

    Raises:
        ModelInUse: an unfinished audit names it.
        ModelNotFound: the caller has neither.
        UploadBusy, InvalidReference: as their names say.
    """
    anybodys = caller.may("admin")
    own = dependencies.models.has(name, owner=None if anybodys else caller.owner)
    if own and dependencies.ledger.uses(f"store:{name}"):
        raise ModelInUse("an unfinished audit names this model", hint="cancel it, or wait until it has ended")
    dependencies.models.remove(name, owner=caller.owner, anybodys=anybodys)
