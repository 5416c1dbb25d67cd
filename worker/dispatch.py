"""Puts the ids of audits on the broker. Torch-free: the API imports it.

The message is the audit's id and nothing else; everything about the audit is read from the ledger.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import redis
from celery.exceptions import CeleryError
from kombu.exceptions import KombuError

from worker.app import QUEUE, TASK, create_app
from worker.errors import BrokerUnavailable

if TYPE_CHECKING:
    from kombu import Connection

_TIMEOUT_S: Final = 0.8
"""For connecting, and for each answer; the longest call waits for two of them."""
_TRIED_KEY: Final = f"{QUEUE}.tried"
_TRIED_S: Final = 60


class Dispatcher:
    """Sends audits to whichever worker is free; safe to share between threads.

    Every call ends within two seconds: an outage of the broker is handled by the reaper, and is no reason to keep a
    client waiting. Every call connects anew: there is one a minute or so, and no connection can then be left over from
    before the broker's address moved, to a former primary that takes no more writes for example.
    """

    def __init__(self, broker_url: str) -> None:
        """Connect to nothing yet.

        Raises:
            ValueError: as ``parse_broker_url``.
        """
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

    def enqueue(self, audit_id: str) -> None:
        """Send ``audit_id`` to the workers.

        Raises:
            BrokerUnavailable: it was not stored, or nobody can tell; sending it again is harmless.
        """
        with self._connection() as connection:
            self._app.send_task(
                TASK, args=(audit_id,), queue=QUEUE, retry=False, ignore_result=True, connection=connection
            )

    def queue_length(self) -> int:
        """Messages that no worker has taken yet.

        Raises:
            BrokerUnavailable: the broker did not answer.
        """
        with self.client() as client:
            return int(client.llen(QUEUE))

    def ping(self) -> None:
        """Return if the broker takes writes.

        Raises:
            BrokerUnavailable: it does not answer, takes no writes, or is full.
        """
        with self.client() as client:
            client.set(_TRIED_KEY, "", ex=_TRIED_S)

    @contextmanager
    def client(self) -> "Iterator[redis.Redis]":
        """A client of the broker itself, connected as workers are.

        Raises:
            BrokerUnavailable: the broker does not answer, or refuses what is asked of it here.
        """
        with self._connection() as connection:
            yield connection.default_channel.client

    @contextmanager
    def _connection(self) -> "Iterator[Connection]":
        """A connection of its own; the errors of three libraries become the one that callers handle."""
        try:
            with self._app.connection_for_write() as connection:
                yield connection
        except (OSError, redis.RedisError, KombuError, CeleryError) as error:
            raise BrokerUnavailable(f"the broker cannot be used: {type(error).__name__}") from error

    def close(self) -> None:
        """Close the application."""
        self._app.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
