"""When a failed call is sent again."""

import random
from dataclasses import dataclass
from typing import Any

from backdoor_audit.client.call import Call
from backdoor_audit.client.errors import AnswerError, ClientError, Unreachable


@dataclass(frozen=True)
class RetryPolicy:
    """How often a failed call is sent again, and after how many seconds."""

    attempts: int = 4
    first_s: float = 0.25
    longest_s: float = 8.0

    def delay_s(self, call: Call[Any], attempt: int, error: ClientError, requested_s: float | None) -> float | None:
        """Seconds to wait before the next attempt; None if the error is final.

        A call is repeated only if this can help: after no response, a gateway's own error, 429 and 503.
        ``requested_s`` is what the service asked for; if it is more than ``longest_s``, there are no further attempts.
        """
        passing = isinstance(error, Unreachable) or (
            isinstance(error, AnswerError) and error.status in (429, 502, 503, 504)
        )
        if not passing or not call.repeatable or attempt >= self.attempts:
            return None
        if requested_s is not None and requested_s > self.longest_s:
            return None
        backoff: float = min(self.longest_s, self.first_s * 2 ** (attempt - 1))
        return max(backoff * random.uniform(0.5, 1.0), requested_s or 0.0)
