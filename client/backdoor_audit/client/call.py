"""One call of the API as a value: what to send, whether repeating it is safe, and how to read the response.

Nothing here does input or output, so the blocking and the asynchronous client share it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from backdoor_audit.client.errors import error_for

T = TypeVar("T")


@dataclass(frozen=True)
class Received:
    """An HTTP response, independent of the HTTP library; header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def retry_after_s(self) -> float | None:
        """Seconds that the service asks to wait; None if it does not say, or gives a date."""
        try:
            seconds = float(self.headers.get("retry-after", ""))
        except ValueError:
            return None
        return seconds if 0 <= seconds < float("inf") else None


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request; ``repeatable`` means that sending it twice has the same effect as sending it once."""

    method: str
    path: str
    read: Callable[[Received], T]
    params: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    repeatable: bool = True

    def finish(self, received: Received) -> T:
        """The response as a value.

        Raises:
            AnswerError: the service responded with a problem.
            UnexpectedAnswer: the body is not what this call returns.
        """
        if received.status >= 400:
            raise error_for(received.status, received.body)
        return self.read(received)
