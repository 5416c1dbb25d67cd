"""Use cases for benign libraries that need more than one call of the ledger."""

from jobs.errors import AuditNotFound
from jobs.records import StoredEntry
from service.dependencies import Dependencies
from service.errors import EntryNeedsReason, ErrorItem, InvalidRequest


def add_entry(
    dependencies: Dependencies, owner: str, library: str, *, audit_id: str, recipe: str | None, because: str | None
) -> StoredEntry:
    """Add the score of a finished audit whose model the owner vouches is benign. Nothing checks that it is.

    Raises:
        InvalidRequest: the owner has no such audit. Not ``AuditNotFound``: the library is what the call is about.
        LibraryNotFound, LibraryFull, EntryRefused, EntryNeedsReason, EntryExists: as their names say.
    """
    dependencies.ledger.libraries.get(library, owner=owner)
    try:
        if because is None and dependencies.ledger.get(audit_id, owner=owner).verdict in ("flagged", "review"):
            raise EntryNeedsReason
        return dependencies.ledger.libraries.add(
            library, owner=owner, audit_id=audit_id, recipe=recipe, because=because
        )
    except AuditNotFound:
        raise InvalidRequest(errors=[ErrorItem("body", "#/audit_id", "is not one of your audits")]) from None
