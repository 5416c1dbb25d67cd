"""Names into addresses, within a time. The system's resolver takes as long as it takes and cannot be interrupted."""

import socket
import threading
import time
from typing import Final

import httpcore

_AT_ONCE: Final = 8
"""Questions that may be under way; one that nobody waits for any more counts until the resolver gives up."""

_places: Final = threading.BoundedSemaphore(_AT_ONCE)


def addresses_of(host: str, port: int, ends_at: float) -> list[str]:
    """The addresses of a name, asked for in a thread of its own.

    Args:
        host: a name or a literal address.
        port: part of the question.
        ends_at: when the answer is not waited for any longer, by the monotonic clock.

    Raises:
        httpcore.ConnectTimeout: there was no answer in time, or too many questions are under way already.
        httpcore.ConnectError: the name is not known.
    """
    if not _places.acquire(timeout=max(0.0, ends_at - time.monotonic())):
        raise httpcore.ConnectTimeout("too many names are being resolved")
    question = _Question(host, port)
    try:
        question.start()
    except RuntimeError as error:  # the system gives no more threads
        _places.release()
        raise httpcore.ConnectTimeout("the name cannot be asked for") from error
    question.join(max(0.0, ends_at - time.monotonic()))
    if question.is_alive():
        raise httpcore.ConnectTimeout("the name was not resolved in time")
    if question.failed is not None:
        raise httpcore.ConnectError("the name is not known") from question.failed
    return question.found


class _Question(threading.Thread):
    """One call of the resolver. The process does not wait for it when it ends."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(name="resolver", daemon=True)
        self.found: list[str] = []
        self.failed: Exception | None = None
        self._asked = (host, port)

    def run(self) -> None:
        """Ask, and give the place free."""
        host, port = self._asked
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            self.found = [str(entry[4][0]) for entry in entries]
        except (OSError, UnicodeError) as error:
            self.failed = error
        finally:
            _places.release()
