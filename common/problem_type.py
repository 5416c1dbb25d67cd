"""What clients are told about an error: each class in the rooms' error trees names one problem type.

The HTTP status of each code is defined by the service (``service.http.problems.STATUSES``).
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class ProblemType:
    """One kind of problem: ``code`` for programs, ``title`` and ``detail`` for people. Contains nothing from a
    request.
    """

    code: str
    title: str
    detail: str


INTERNAL: Final = ProblemType(
    "internal", "Internal error", "Something went wrong. The service's log has the cause under this instance."
)
"""For errors that clients can do nothing about."""

INVALID_REQUEST: Final = ProblemType("invalid_request", "Invalid request", "The request is not valid for this call.")
NO_SPACE: Final = ProblemType("no_space", "No space left", "The disk that holds the store is full.")
STORE_UNAVAILABLE: Final = ProblemType(
    "store_unavailable", "Store unavailable", "The store's disk or server did not respond. Try again."
)
