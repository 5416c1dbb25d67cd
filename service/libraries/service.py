"""What can be done with benign libraries, beyond one call of the ledger."""

from jobs.errors import AuditNotFound
from jobs.records import StoredEntry
from service.dependencies import Dependencies
from service.errors import ErrorItem, InvalidRequest


def add_entry(
    dependencies: Dependencies, owner: str, library: str, *, audit_id: str, recipe: str | None
) -> StoredEntry:
    """Add the score of a finished audit whose model the owner vouches is benign. Nobody checks that it is.

    Raises:
        InvalidRequest: the owner has no such audit. Not ``AuditNotFound``: the library is what the call is about.
        LibraryNotFound, LibraryFull, EntryRefused, EntryExists: as their names say.
    """
    try:
        return dependencies.ledger.libraries.add(library, owner=owner, audit_id=audit_id, recipe=recipe)
    except AuditNotFound:
        raise InvalidRequest(errors=[ErrorItem("body", "#/audit_id", "is no audit of yours")]) from None
