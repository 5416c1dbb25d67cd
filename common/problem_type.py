"""What the outside world is told of an error: each class of the rooms' error trees names one problem type.

The HTTP status of each code is the service's business (``service.http.problems.STATUSES``).
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class ProblemType:
    """One kind of problem: ``code`` for programs, ``title`` and ``detail`` for people. Holds nothing of a request."""

    code: str
    title: str
    detail: str


INTERNAL: Final = ProblemType(
    "internal", "Internal error", "Something went wrong. The service's log has the cause under this instance."
)
"""For errors that no client can do anything about."""

INVALID_REQUEST: Final = ProblemType(
    "invalid_request", "Invalid request", "The request is not valid for this call; `errors` lists what is wrong."
)
NO_SPACE: Final = ProblemType("no_space", "No space left", "The disk that holds the store is full.")
STORE_UNAVAILABLE: Final = ProblemType(
    "store_unavailable", "Store unavailable", "The store's disk or server did not answer. Try again."
)
