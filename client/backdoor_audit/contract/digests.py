"""Combines the digests of a checkpoint's files into the digest of its content.

Both sides compute it, the store from the files that it keeps and the client from the files that it sends, so that
neither has to trust the other.
"""

import hashlib
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field, StringConstraints

from backdoor_audit.contract.base import Frozen

Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
"""64 hexadecimal characters."""


class FileDigest(Frozen):
    """One file of a checkpoint."""

    name: str = Field(min_length=1, description="Path in the checkpoint's folder, with /.")
    sha256: Sha256 = Field(description="SHA-256 of its content, hexadecimal.")


def content_digest(digests: Iterable[tuple[str, str]]) -> str:
    """SHA-256 over the sorted names and digests of the files that count.

    Args:
        digests: relative name and hexadecimal SHA-256 of each file.

    Returns:
        ``sha256:`` and 64 hexadecimal characters.
    """
    hasher = hashlib.sha256()
    for name, digest in sorted(digests):
        hasher.update(f"{digest}  {name}\n".encode())
    return f"sha256:{hasher.hexdigest()}"
