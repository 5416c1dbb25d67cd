"""Combines the digests of a checkpoint's files into the digest of its content.

Both sides compute it, the store from the files that it keeps and the client from the files that it sends, so that
neither has to trust the other.
"""

import hashlib
from collections.abc import Iterable


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
