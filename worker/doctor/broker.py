"""The broker: does it take messages, and does it keep them?"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from worker.dispatch import Dispatcher
from worker.doctor.finding import Finding, State, clock_skew
from worker.errors import BrokerUnavailable
from worker.settings import WorkerSettings


def check(settings: WorkerSettings) -> Iterator[Finding]:
    """Check that the broker takes writes, its clock, and that it keeps messages."""
    try:
        with Dispatcher(settings.broker_url) as dispatcher:
            with dispatcher.client() as client:
                info: Any = client.info()
                seconds, microseconds = client.time()
            dispatcher.ping()
        server = f"{info.get('server_name', 'redis')} {info.get('redis_version', '')}"
        yield Finding("broker", "ok", f"{server} takes writes")
        yield clock_skew("broker clock", datetime.fromtimestamp(seconds + microseconds / 1e6, UTC))
        yield from _broker_policy(info)
        yield from _password(settings.broker_url)
    except BrokerUnavailable as error:
        bundled = "broker_url" not in settings.model_fields_set
        yield Finding(
            "broker", "warning" if bundled else "bad", f"cannot be used: {type(error.__cause__).__name__}",
            "start `backdoor-audit serve`: the bundled broker runs only while it does" if bundled else
            "check that it is running and that BACKDOOR_AUDIT_BROKER_URL is right; until then, audits stay queued",
        )  # fmt: skip


def _broker_policy(info: dict[str, Any]) -> Iterator[Finding]:
    """Messages must not be evicted, and should survive a restart."""
    policy = str(info.get("maxmemory_policy", ""))
    limit = int(info.get("maxmemory", 0))
    if policy == "noeviction":
        yield Finding("broker eviction", "ok", "noeviction")
    else:
        state: State = "bad" if limit else "warning"
        yield Finding(
            "broker eviction", state, f"{policy or 'unknown'}, maxmemory {limit}",
            "set maxmemory-policy noeviction: an evicted message delays its audit until it is sent again",
        )  # fmt: skip
    if int(info.get("aof_enabled", 0)):
        yield Finding("broker persistence", "ok", "append-only file")
    else:
        yield Finding(
            "broker persistence", "warning", "no append-only file",
            "set appendonly yes: without it a restarted broker is empty, and queued audits wait to be sent again",
        )  # fmt: skip


def _password(broker_url: str) -> Iterator[Finding]:
    """Whoever can write to the broker chooses what workers do next; a socket is guarded by its folder."""
    parts = urlsplit(broker_url)
    if parts.scheme == "redis+socket":
        return
    without = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    try:
        with Dispatcher(without) as dispatcher:
            dispatcher.ping()
    except BrokerUnavailable:
        yield Finding("broker password", "ok", "it refuses those who have none")
    else:
        yield Finding(
            "broker password", "warning", "it takes messages from anybody on its network",
            "set requirepass, and put the password into BACKDOOR_AUDIT_BROKER_URL; TLS if the network is not yours",
        )  # fmt: skip
