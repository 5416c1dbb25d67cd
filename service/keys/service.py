"""Use cases for API keys that need more than one call of the ledger."""

from jobs.keys import KeyRecord
from service.dependencies import Dependencies
from service.keys.schemas import KeySpec


def create_key(dependencies: Dependencies, caller_owner: str, wanted: KeySpec) -> tuple[KeyRecord, str]:
    """Create a key, for the caller's own owner unless another is named. Returns it and its text, which is not
    stored.
    """
    return dependencies.ledger.keys.create(
        owner=wanted.owner or caller_owner,
        name=wanted.name,
        scopes=wanted.scopes,
        lifetime_s=wanted.expires_in_s,
    )
