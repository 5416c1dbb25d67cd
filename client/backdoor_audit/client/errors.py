"""The errors of the client.

::

    ClientError                 message, hint
    ├── Unreachable             no answer: refused, timed out, cut off
    ├── NoVerdictInTime         the caller stopped waiting; the audit continues
    ├── UnexpectedAnswer        a response that this client does not know
    ├── AnswerError             status, problem
    │   ├── InvalidRequest      400, 413, 415, 422 and other 4xx
    │   ├── NotAllowed          401, 403
    │   ├── NotFound            404
    │   ├── Conflict            409
    │   ├── Busy                429, 503
    │   └── ServiceFault        other 5xx
    ├── OtherContent            a model in the store is not the one that was pushed
    └── WrongUsage              the command or call cannot be carried out as written
"""

from pydantic import BaseModel, ConfigDict, ValidationError

__all__ = [
    "AnswerError",
    "Busy",
    "ClientError",
    "Conflict",
    "InvalidRequest",
    "NoVerdictInTime",
    "NotAllowed",
    "NotFound",
    "OtherContent",
    "Problem",
    "ProblemItem",
    "ServiceFault",
    "UnexpectedAnswer",
    "Unreachable",
    "WrongUsage",
    "error_for",
]


class ProblemItem(BaseModel):
    """One error of a request: where (a JSON pointer) and what."""

    model_config = ConfigDict(frozen=True, extra="allow")

    pointer: str = ""
    detail: str = ""


class Problem(BaseModel):
    """A problem document (RFC 9457); missing fields stay empty."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str = "about:blank"
    title: str = ""
    status: int = 0
    code: str = ""
    detail: str = ""
    errors: tuple[ProblemItem, ...] = ()

    @classmethod
    def read(cls, body: bytes, status: int) -> "Problem":
        """Parse a body; anything that is not a problem document gives one with only the status."""
        try:
            return cls.model_validate_json(body)
        except ValidationError:
            return cls(status=status)

    def lines(self) -> list[str]:
        """The problem in words, one line for each error."""
        first = self.detail or self.title or f"HTTP status {self.status}"
        return [first, *(f"{item.pointer or '(body)'}: {item.detail}" for item in self.errors)]


class ClientError(Exception):
    """Base of every error of the client."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Unreachable(ClientError):
    """No response: nothing listens there, it took too long, or the connection was cut."""


class NoVerdictInTime(ClientError):
    """The caller's own limit passed before the audit reached a terminal state; the audit continues."""


class UnexpectedAnswer(ClientError):
    """A response that this client does not know: from another service, or a newer one."""


class WrongUsage(ClientError):
    """The command or call cannot be carried out as written."""


class OtherContent(ClientError):
    """A model in the store has other files than the ones that were pushed under its name."""


class AnswerError(ClientError):
    """The service responded with a problem.

    ``status`` is the HTTP status, ``problem`` the parsed problem document.
    """

    def __init__(self, status: int, problem: Problem) -> None:
        super().__init__("\n".join(problem.lines()))
        self.status = status
        self.problem = problem


class InvalidRequest(AnswerError):
    """The service rejected the request."""


class NotAllowed(AnswerError):
    """The key is missing, invalid, or lacks the scope that this needs."""


class NotFound(AnswerError):
    """No such audit, model or page."""


class Conflict(AnswerError):
    """The current state does not allow this."""


class Busy(AnswerError):
    """The service asked to try again later, on every attempt."""


class ServiceFault(AnswerError):
    """The service failed to process the request."""


_BY_STATUS: dict[int, type[AnswerError]] = {
    401: NotAllowed,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    429: Busy,
    503: Busy,
}


def error_for(status: int, body: bytes) -> AnswerError:
    """The error for an HTTP status of 400 or more."""
    fallback = ServiceFault if status >= 500 else InvalidRequest
    return _BY_STATUS.get(status, fallback)(status, Problem.read(body, status))
