"""Resolves names within a time limit. The system's resolver may take arbitrarily long and cannot be interrupted."""

import socket
import threading
import time
from typing import Final

import httpcore

_AT_ONCE: Final = 8
"""Maximum number of pending queries; one that is no longer waited for still counts until the resolver gives up."""

_places: Final = threading.BoundedSemaphore(_AT_ONCE)


def addresses_of(host: str, port: int, ends_at: float) -> list[str]:
    """The addresses of a name, resolved in a separate thread.

    Args:
        host: a name or a literal address.
        port: part of the query.
        ends_at: when to stop waiting for the result, by the monotonic clock.

    Raises:
        httpcore.ConnectTimeout: there was no result in time, or too many queries are already pending.
        httpcore.ConnectError: the name is unknown.
    """
    if not _places.acquire(timeout=max(0.0, ends_at - time.monotonic())):
        raise httpcore.ConnectTimeout("too many names are being resolved")
    question = _Question(host, port)
    try:
        question.start()
    except RuntimeError as error:  # the system provides no more threads
        _places.release()
        raise httpcore.ConnectTimeout("the name cannot be looked up") from error
    question.join(max(0.0, ends_at - time.monotonic()))
    if question.is_alive():
        raise httpcore.ConnectTimeout("the name was not resolved in time")
    if question.failed is not None:
        raise httpcore.ConnectError("the name is unknown") from question.failed
    return question.found


class _Question(threading.Thread):
    """One call of the resolver. The process does not wait for it on exit."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(name="resolver", daemon=True)
        self.found: list[str] = []
        self.failed: Exception | None = None
        self._asked = (host, port)

    def run(self) -> None:
        """Resolve, then free the slot."""
        host, port = self._asked
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            self.found = [str(entry[4][0]) for entry in entries]
        except (OSError, UnicodeError) as error:
            self.failed = error
        finally:
            _places.release()
