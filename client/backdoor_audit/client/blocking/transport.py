# Written by `python -m tools.unasync --write` from ../asynchronous; do not edit.
"""Sends one call at a time, and repeats it as the retry policy says."""

import time
from typing import TypeVar

import httpx

from backdoor_audit.client import connection
from backdoor_audit.client.call import Call
from backdoor_audit.client.errors import ClientError
from backdoor_audit.client.retry import RetryPolicy

T = TypeVar("T")


class Transport:
    """One connection pool to one service."""

    def __init__(self, url: str, *, api_key: str | None, timeout_s: float, retry: RetryPolicy) -> None:
        self.url = url
        self.retry = retry
        address = connection.address(url)
        self.http = httpx.Client(
            base_url=address.base,
            transport=httpx.HTTPTransport(uds=address.socket) if address.direct else None,
            **connection.options(api_key, timeout_s),
        )

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def pause(self, seconds: float) -> None:
        """Do nothing for that long."""
        time.sleep(seconds)

    def send(self, call: Call[T]) -> T:
        """Execute a call.

        Raises:
            ClientError: it failed, and repeating it would not help or did not.
        """
        attempt = 1
        while True:
            requested_s: float | None = None
            try:
                with connection.translated(self.url):
                    response = self.http.request(**connection.request(call))
                answer = connection.received(self.url, response)
                requested_s = answer.retry_after_s()
                return call.finish(answer)
            except ClientError as error:
                delay = self.retry.delay_s(call, attempt, error, requested_s)
                if delay is None:
                    raise
            self.pause(delay)
            attempt += 1
