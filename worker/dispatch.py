"""Puts the ids of audits on the broker. Torch-free: the API imports it.

The message is the audit's id and nothing else; everything about the audit is read from the ledger.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qsl, urlsplit

import redis
from celery.exceptions import CeleryError
from kombu.exceptions import KombuError
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.app import QUEUE, TASK, create_app
from worker.errors import BrokerUnavailable

_TIMEOUT_S: Final = 0.8
"""For connecting, and for each answer; the longest call waits for two of them."""


class Dispatcher:
    """Sends audits to whichever worker is free; safe to share between threads.

    Every call ends within two seconds: an outage of the broker is the reaper's business, and no reason to keep a client
    waiting.
    """

    def __init__(self, broker_url: str) -> None:
        """Connect lazily to ``broker_url`` (``redis://…``, ``rediss://…`` or ``redis+socket:///path``)."""
        self._app = create_app(
            broker_url,
            transport_options={
                "socket_timeout": _TIMEOUT_S,
                "socket_connect_timeout": _TIMEOUT_S,
                "retry_on_timeout": False,
                "max_retries": 1,
                "interval_start": 0,
                "connect_retries_timeout": _TIMEOUT_S,
            },
        )
        self._app.conf.broker_connection_timeout = _TIMEOUT_S
        self._client = broker_client(broker_url)

    def enqueue(self, audit_id: str) -> None:
        """Send ``audit_id`` to the workers.

        Raises:
            BrokerUnavailable: it was not stored, or nobody can tell; sending it again is harmless.
        """
        with _translated():
            self._client.ping()
            self._app.send_task(TASK, args=(audit_id,), queue=QUEUE, retry=False, ignore_result=True)

    def queue_length(self) -> int:
        """Messages that no worker has taken yet.

        Raises:
            BrokerUnavailable: the broker did not answer.
        """
        with _translated():
            return int(self._client.llen(QUEUE))

    def ping(self) -> None:
        """Return if the broker answers.

        Raises:
            BrokerUnavailable: it does not.
        """
        with _translated():
            self._client.ping()

    def close(self) -> None:
        """Give back the connections."""
        self._app.close()
        self._client.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def broker_client(broker_url: str) -> "redis.Redis":
    """A client of the broker itself that gives up within a second; connects at its first call."""
    return redis.Redis.from_url(
        _client_url(broker_url),
        socket_timeout=_TIMEOUT_S,
        socket_connect_timeout=_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the errors of three libraries into the one that callers handle."""
    try:
        yield
    except (OSError, redis.RedisError, KombuError, CeleryError) as error:
        raise BrokerUnavailable(f"the broker cannot be used: {type(error).__name__}") from error


def _client_url(broker_url: str) -> str:
    """The same address in the spelling of redis-py, which has another one for sockets."""
    parts = urlsplit(broker_url)
    if parts.scheme != "redis+socket":
        return broker_url
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    database = options.get("virtual_host", "0").lstrip("/")
    return f"unix://{parts.netloc}{parts.path}?db={database}"
