"""Sends one call at a time, and repeats it as the retry policy says."""

import asyncio
from typing import TypeVar

import httpx

from backdoor_audit.client import connection
from backdoor_audit.client.call import Call
from backdoor_audit.client.errors import ClientError
from backdoor_audit.client.retry import RetryPolicy

T = TypeVar("T")


class AsyncTransport:
    """One connection pool to one service."""

    def __init__(self, url: str, *, api_key: str | None, timeout_s: float, retry: RetryPolicy) -> None:
        self.url = url
        self.retry = retry
        address = connection.address(url)
        self.http = httpx.AsyncClient(
            base_url=address.base,
            transport=httpx.AsyncHTTPTransport(uds=address.socket) if address.direct else None,
            **connection.options(api_key, timeout_s),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self.http.aclose()

    async def pause(self, seconds: float) -> None:
        """Do nothing for that long."""
        await asyncio.sleep(seconds)

    async def send(self, call: Call[T]) -> T:
        """Execute a call.

        Raises:
            ClientError: it failed, and repeating it would not help or did not.
        """
        attempt = 1
        while True:
            requested_s: float | None = None
            try:
                with connection.translated(self.url):
                    response = await self.http.request(**connection.request(call))
                answer = connection.received(self.url, response)
                requested_s = answer.retry_after_s()
                return call.finish(answer)
            except ClientError as error:
                delay = self.retry.delay_s(call, attempt, error, requested_s)
                if delay is None:
                    raise
            await self.pause(delay)
            attempt += 1
