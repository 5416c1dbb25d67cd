"""Submit many audits at once, and poll them from many clients while workers process them.

``python -m benchmarks.load`` runs PostgreSQL, Valkey, one API and four workers on this machine, submits 200 audits of a
toy model (random weights, every stage real), lets 50 clients poll, and checks in the ledger that each audit ended once,
was claimed once and has one report. Then it sends 10,000 more requests and compares the API's memory. Workers, API,
databases and the clients themselves share the machine's cores, so the latency is that of a client on the same machine.
"""

import argparse
import asyncio
import random
import shutil
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psutil

from backdoor_audit.contract.lifecycle import TERMINAL
from benchmarks.harness.goals import at_most
from benchmarks.harness.machine import ROOT, write_result
from benchmarks.load.stack import Cluster, cluster
from jobs.ledger import Ledger

GOAL_P99_MS = 100.0
GOAL_MEMORY = 1.1
POLL_EVERY_S = 1.0


def percentile(values: list[float], share: float) -> float:
    """The quantile at ``share``: this share of the values does not exceed it."""
    return statistics.quantiles(values, n=1000, method="inclusive")[round(share * 1000) - 1]


async def file_audits(url: str, spec: dict[str, Any], count: int, clients: int) -> list[str]:
    """POST all of them, each with its own key, ``clients`` at a time; returns the ids."""
    gate = asyncio.Semaphore(clients)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=_limits(clients)) as http:

        async def post(number: int) -> str:
            async with gate:
                answer = await http.post("/audits", json=spec, headers={"Idempotency-Key": f"load-{number}"})
                answer.raise_for_status()
                found: str = answer.json()["id"]
                return found

        return list(await asyncio.gather(*(post(number) for number in range(count))))


async def poll(url: str, ids: list[str], clients: int, within_s: float) -> tuple[list[float], int]:
    """Let the clients poll audits, one at a time, until all have ended; returns the milliseconds of every poll.

    The second value is the number of polls without a response, when the API closes a connection just as it is used.
    """
    taken: list[float] = []
    broken: list[str] = []
    open_ids = set(ids)
    give_up_at = time.monotonic() + within_s
    async with httpx.AsyncClient(base_url=url, timeout=30, limits=_limits(clients)) as http:

        async def client(number: int) -> None:
            source = random.Random(number)
            await asyncio.sleep(source.random() * POLL_EVERY_S)
            while open_ids:
                if time.monotonic() > give_up_at:
                    raise TimeoutError(f"{len(open_ids)} audits had not ended")
                audit_id = source.choice(sorted(open_ids))
                start = time.perf_counter()
                try:
                    answer = await http.get(f"/audits/{audit_id}")
                except httpx.TransportError:
                    broken.append(audit_id)
                    continue
                taken.append(1000 * (time.perf_counter() - start))
                answer.raise_for_status()
                if answer.json()["status"] in TERMINAL:
                    open_ids.discard(audit_id)
                await asyncio.sleep(POLL_EVERY_S)

        await asyncio.gather(*(client(number) for number in range(clients)))
    return taken, len(broken)


async def hammer(url: str, ids: list[str], requests: int, clients: int) -> tuple[list[float], int]:
    """Read audits as fast as the API answers; returns the milliseconds of every response, and the number of requests
    without one.
    """
    taken: list[float] = []
    broken = 0
    left = iter(range(requests))
    async with httpx.AsyncClient(base_url=url, timeout=30, limits=_limits(clients)) as http:

        async def client() -> None:
            for number in left:
                nonlocal broken
                start = time.perf_counter()
                try:
                    answer = await http.get(f"/audits/{ids[number % len(ids)]}")
                except httpx.TransportError:
                    broken += 1
                    continue
                taken.append(1000 * (time.perf_counter() - start))
                answer.raise_for_status()

        await asyncio.gather(*(client() for _ in range(clients)))
    return taken, broken


def _limits(clients: int) -> httpx.Limits:
    return httpx.Limits(max_connections=clients, max_keepalive_connections=clients)


def account(database_url: str, ids: list[str]) -> dict[str, Any]:
    """What the ledger says about the audits: how they ended, and whether any was lost or run twice."""
    ledger = Ledger(database_url)
    try:
        records = [ledger.get(audit_id) for audit_id in ids]
        claims = [sum(event.status == "running" and event.kind == "status" for event in ledger.events(i)) for i in ids]
        reports = sum(
            ledger.report(record.id).audit_id == record.id for record in records if record.status == "succeeded"
        )
    finally:
        ledger.close()
    return {
        "filed": len(ids),
        "distinct": len(set(ids)),
        "ended": dict(Counter(record.status for record in records)),
        "reports": reports,
        "claimed_more_than_once": sum(count > 1 for count in claims),
        "attempts_above_one": sum(record.attempt > 1 for record in records),
    }


async def run(running: Cluster, options: argparse.Namespace, spec: dict[str, Any]) -> dict[str, Any]:
    """The whole measurement on a running cluster."""
    api = psutil.Process(running.api.pid)
    start = time.perf_counter()
    ids = await file_audits(running.url, spec, options.audits, options.clients)
    filed_s = time.perf_counter() - start
    polls, unanswered = await poll(running.url, ids, options.clients, options.within)
    worked_s = time.perf_counter() - start
    await hammer(running.url, ids, options.requests // 10, options.clients)
    before = api.memory_info().rss
    hammered, broken = await hammer(running.url, ids, options.requests, options.clients)
    after = api.memory_info().rss
    p99 = percentile(polls, 0.99)
    return {
        "audits": options.audits, "workers": options.workers, "clients": options.clients, "requests": options.requests,
        "seconds": {"filing": round(filed_s, 2), "until_all_ended": round(worked_s, 1)},
        "ledger": account(running.database_url, ids),
        "poll_ms": {"polls": len(polls), "without_an_answer": unanswered, "p50": round(percentile(polls, 0.5), 1),
                    "p99": round(p99, 1), "largest": round(max(polls), 1)},
        "hammer_ms": {"without_an_answer": broken, "p50": round(percentile(hammered, 0.5), 1),
                      "p99": round(percentile(hammered, 0.99), 1)},
        "api_rss_bytes": {"before": before, "after": after},
        "goals": [
            at_most("99th percentile of a poll while workers work", p99, GOAL_P99_MS, " ms"),
            at_most(f"API's memory after {options.requests:,} requests / before", after / before, GOAL_MEMORY, "×"),
        ],
    }  # fmt: skip


def main() -> None:
    """Run the measurement and write ``benchmarks/results/load.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=200)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--within", type=float, default=7200, help="maximum seconds for all audits")
    options = parser.parse_args()
    from tests.toy import toy_spec, write_toy_adapter, write_toy_base

    data = Path(tempfile.mkdtemp(prefix="load-", dir=_made(ROOT / "data")))
    try:
        write_toy_adapter(data / "models" / "adapter", write_toy_base(data / "models" / "base"))
        spec = toy_spec().model_dump(mode="json", exclude_none=True)
        with cluster(data, data / "models", workers=options.workers) as running:
            found = asyncio.run(run(running, options, spec))
        print(f"{found['ledger']}\n{found['poll_ms']}\nwritten to {write_result('load', found)}")
    finally:
        shutil.rmtree(data, ignore_errors=True)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    main()
