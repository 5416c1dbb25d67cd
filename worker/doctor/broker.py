"""The broker: does it answer, and does it keep messages?"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import redis

from worker.dispatch import broker_client
from worker.doctor.finding import Finding, State, clock_skew
from worker.settings import WorkerSettings


def check(settings: WorkerSettings) -> Iterator[Finding]:
    """Check that the broker answers, its clock, and that it keeps messages."""
    client = broker_client(settings.broker_url)
    try:
        info: Any = client.info()
        yield Finding("broker", "ok", f"{info.get('server_name', 'redis')} {info.get('redis_version', '')} answers")
        seconds, microseconds = client.time()
        yield clock_skew("broker clock", datetime.fromtimestamp(seconds + microseconds / 1e6, UTC))
        yield from _broker_policy(client, info)
    except redis.RedisError as error:
        bundled = "broker_url" not in settings.model_fields_set
        yield Finding(
            "broker", "warning" if bundled else "bad", f"no answer: {type(error).__name__}",
            "start `backdoor-audit serve`: the bundled broker runs only while it does" if bundled else
            "check that it is running and that BACKDOOR_AUDIT_BROKER_URL is right; until then, audits stay queued",
        )  # fmt: skip
    finally:
        client.close()


def _broker_policy(client: "redis.Redis", info: dict[str, Any]) -> Iterator[Finding]:
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
