"""Connections that are slow, idle or too many: uvicorn's server with limits of its own.

A client has ``patience_s`` to send a request's head, and as long to make room for more of an answer; bodies have their
limit in ``middleware.py``, where what the service itself takes does not count. Of connections there are never more than
the process has descriptors for, with some kept back for its own work. Where one more comes, it takes the place of the
connection that has been silent for longest among those that owe us something: a head, more of a body, or room for more
of an answer.
"""

import asyncio
import resource
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

_OWN_DESCRIPTORS: Final = 64
"""For the ledger, the broker, artifacts, checkpoints that are read, deliveries."""
_BATCH: Final = 32
"""Connections that are accepted at once, before any of them can be counted."""
_FEWEST: Final = 16
_BACKLOG: Final = 2_048
"""Connections that the kernel keeps for us until they are accepted."""
_LOOK_EVERY: Final = 10
"""Ticks of the server, each a tenth of a second."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ConnectionLimits:
    """How many connections there may be, and how long each may keep us waiting, seconds."""

    connections: int
    patience_s: float


class _Connection(H11Protocol):
    """One connection, and since when it has kept us waiting."""

    def __init__(self, config: uvicorn.Config, limits: ConnectionLimits, **rest: Any) -> None:
        super().__init__(config, **rest)
        self._limits = limits
        self._heard_at = self._free_since = time.monotonic()
        self._full_since: float | None = None

    @property
    def owes(self) -> bool:
        """Whether we wait for it: for a head, for more of a body, or until it takes more of an answer."""
        return self._is_free or self.cycle.more_body or self._full_since is not None

    @property
    def heard_at(self) -> float:
        """When it last sent something."""
        return self._heard_at

    @property
    def _is_free(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def is_late(self, now: float) -> bool:
        """Whether a head, or room for more of an answer, has not come in time."""
        since = self._free_since if self._is_free else self._full_since
        return since is not None and now - since > self._limits.patience_s

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it, and let another one go where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            owing = [one for one in self.connections if isinstance(one, _Connection) and one is not self and one.owes]
            gone = min(owing, key=lambda one: one.heard_at, default=self)
            gone.transport.abort()
            self.connections.discard(gone)

    def data_received(self, data: bytes) -> None:
        """Note when it spoke."""
        self._heard_at = time.monotonic()
        super().data_received(data)

    def on_response_complete(self) -> None:
        """Wait for the next head from now on; what is left of a body nobody reads counts as waiting, too."""
        self._free_since = time.monotonic()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Note since when it has not taken what we send."""
        self._full_since = time.monotonic()
        super().pause_writing()

    def resume_writing(self) -> None:
        """It takes it again."""
        self._full_since = None
        super().resume_writing()


class BoundedServer(uvicorn.Server):
    """Uvicorn's server, which lets go of connections that keep it waiting, and never has too many."""

    def __init__(self, config: uvicorn.Config, limits: ConnectionLimits) -> None:
        """Serve ``config``; its protocol and its backlog are set here."""

        def connection(config: uvicorn.Config, **rest: Any) -> _Connection:
            return _Connection(config, limits, **rest)

        config.http = connection  # type: ignore[assignment]
        config.backlog = _BATCH
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, with the kernel's queue longer than what is accepted at once."""
        await super().startup(sockets)
        for listener in sockets or []:
            listener.listen(_BACKLOG)

    async def on_tick(self, counter: int) -> bool:
        """Look through the connections once a second."""
        if counter % _LOOK_EVERY == 0:
            self._close_late()
        return await super().on_tick(counter)

    def _close_late(self) -> None:
        now = time.monotonic()
        late = [one for one in self.server_state.connections if isinstance(one, _Connection) and one.is_late(now)]
        for one in late:
            one.transport.abort()
        if late:
            log.info("connections.closed", count=len(late), reason="they kept the service waiting")


def limits_of(connections: int, patience_s: float) -> ConnectionLimits:
    """The limits of this process, which may open as many descriptors as the system lets it from now on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY:
        connections = min(connections, max(_FEWEST, hard - _OWN_DESCRIPTORS - _BATCH))
    return ConnectionLimits(connections, patience_s)


def serve(config: uvicorn.Config, limits: ConnectionLimits, sockets: Sequence[socket.socket]) -> None:
    """Serve until told to stop."""
    BoundedServer(config, limits).run(sockets=list(sockets))
