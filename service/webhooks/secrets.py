"""Signing secrets at rest: encrypted with the operator's keys, if there are any.

Each message is signed with its webhook's secret, so a secret cannot be hashed. It is stored as a Fernet token
(https://github.com/fernet/spec: AES-128 in CBC mode, then HMAC-SHA256) with a prefix; without a key, as it is. The
first key encrypts and every key decrypts, so a key is replaced by putting a new one in front of it: a start of the API
encrypts anew what is not under the first key.
"""

import re
from collections.abc import Sequence
from typing import Final

import structlog
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from jobs.webhooks.repository import ENCRYPTED, WebhookRepository

log = structlog.get_logger(__name__)

KEY_COMMAND: Final = 'python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'
"""Prints a new key."""


_KEY: Final = re.compile(r"[A-Za-z0-9_-]{43}=")


class UnreadableSecret(Exception):
    """The secret was encrypted with a key that this process does not have."""


class SecretBox:
    """Encrypts and decrypts signing secrets.

    Args:
        keys: Fernet keys, the one that encrypts first; none leaves secrets as they are.

    Raises:
        ValueError: one of them is no Fernet key.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        if not all(_KEY.fullmatch(key) for key in keys):
            raise ValueError("this is not a Fernet key")  # the library ignores what stands after the padding
        parts = [Fernet(key) for key in keys]
        self._first = parts[0] if parts else None
        self._all = MultiFernet(parts) if parts else None

    def seal(self, secret: str) -> str:
        """What is stored for a secret."""
        return secret if self._first is None else ENCRYPTED + self._first.encrypt(secret.encode()).decode()

    def open(self, stored: str) -> str:
        """The secret that something stored stands for.

        Raises:
            UnreadableSecret: none of the keys fits.
        """
        if not stored.startswith(ENCRYPTED):
            return stored
        if self._all is None:
            raise UnreadableSecret
        try:
            return self._all.decrypt(stored.removeprefix(ENCRYPTED)).decode()
        except InvalidToken:
            raise UnreadableSecret from None

    def is_current(self, stored: str) -> bool:
        """Whether it is stored as ``seal`` would store it now."""
        if self._first is None or not stored.startswith(ENCRYPTED):
            return (self._first is None) != stored.startswith(ENCRYPTED)
        try:
            self._first.decrypt(stored.removeprefix(ENCRYPTED))
        except InvalidToken:
            return False
        return True


def reseal(book: WebhookRepository, box: SecretBox) -> int:
    """Store every secret as the box would store it now; return how many were stored anew.

    What none of the keys opens stays, and is logged: it is readable again with its key.

    Raises:
        LedgerError: the ledger cannot be used.
    """
    changed, unreadable = 0, []
    for webhook_id, stored in book.stored_secrets():
        if box.is_current(stored):
            continue
        try:
            changed += book.replace_secret(webhook_id, stored, box.seal(box.open(stored)))
        except UnreadableSecret:
            unreadable.append(webhook_id)
    if changed:
        log.info("webhook.secrets_encrypted", webhooks=changed)
    if unreadable:
        log.error("webhook.secrets_unreadable", webhook_ids=unreadable[:20], webhooks=len(unreadable))
    return changed
