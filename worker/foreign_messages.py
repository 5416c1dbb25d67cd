"""Messages that no dispatcher of ours has sent. Whoever reaches the broker can write any; none may end a worker.

Celery and kombu expect the broker to hold what Celery wrote: a body that is not the usual triple, or an item that is
not JSON, raises in the loop that reads, which ends the worker, and the next one finds the message again. Here each
message is looked at first. A foreign one is acknowledged, so that it does not come back, and logged by its size alone.
"""

import time
import warnings
from collections.abc import Callable
from queue import Empty
from typing import Any, Final

import structlog
from celery.exceptions import CPendingDeprecationWarning
from celery.worker.consumer import Consumer
from kombu import transport
from kombu.transport import TRANSPORT_ALIASES, redis

from storage.artifacts import AUDIT_ID
from worker.app import TASK

_MAX_ID: Final = 128
_RETRY_S: Final = 1.0

log = structlog.get_logger(__name__)


_MALFORMED: Final = (ValueError, TypeError, LookupError, AttributeError, RecursionError)


class QoS(redis.QoS):  # type: ignore[misc]
    """Puts what was never acknowledged back into the queue; what is no message of the transport is dropped.

    It does so when a worker starts, so a foreign entry would end each one.
    """

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> Any:
        """Put one entry back; drop it if it cannot be read."""
        try:
            return super().restore_by_tag(tag, client, leftmost)
        except _MALFORMED as error:
            log.warning("message.dropped", reason=type(error).__name__)
            with self.channel.conn_or_acquire(client) as connected:
                connected.hdel(self.unacked_key, tag)
                connected.zrem(self.unacked_index_key, tag)


class Channel(redis.Channel):  # type: ignore[misc]
    """Reads items of the queue; what is no message of the transport is dropped."""

    QoS = QoS

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except _MALFORMED as error:
            log.warning("message.dropped", reason=type(error).__name__)
            raise Empty from error


class Transport(redis.Transport):  # type: ignore[misc]
    """The transport of workers."""

    Channel = Channel


class CarefulConsumer(Consumer):  # type: ignore[misc]
    """Hands a message to Celery where it is one of ours; tries again each second where the broker can't be used."""

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Pause: a broker that takes no writes, as in a failover, lets us connect and then refuses to be used."""
        self._pause(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Pause, after Celery has tidied up."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CPendingDeprecationWarning)  # of a setting that we have made
            super().on_connection_error_after_connected(exc)
        self._pause(exc)

    def _pause(self, error: Exception) -> None:
        log.warning("broker.awaited", error=type(error).__name__)
        time.sleep(_RETRY_S)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Wrap Celery's own handler."""
        handle = super().create_task_handler(*args, **kwargs)

        def on_message(message: Any) -> None:
            if _is_ours(message):
                handle(message)
            else:
                log.warning("message.dropped", reason="foreign", bytes=len(message.body or b""))
                message.ack_log_error(log, self.connection_errors)

        return on_message


def use_careful_transport() -> None:
    """Have kombu read ``redis://`` and its kin through the channel above, in this process."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"
        # An alias is looked up once a process; what has connected before must not decide.
        transport._transport_cache.pop(scheme, None)


def _is_ours(message: Any) -> bool:
    try:
        (audit_id,), named, options = message.payload
        sent = message.headers["task"] == TASK and isinstance(message.headers["id"], str)
        plain = all(message.headers.get(name) is None for name in ("eta", "expires"))
        return bool(
            sent and plain and named == {} and isinstance(options, dict) and not any(options.values())
            and len(audit_id) <= _MAX_ID and AUDIT_ID.fullmatch(audit_id)
        )  # fmt: skip
    except Exception:
        return False
