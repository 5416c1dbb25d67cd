"""The asynchronous client against the real API, and against the same hand-written answers as the blocking one."""

import asyncio
import inspect

import pytest

from backdoor_audit import AsyncAuditClient, AuditClient
from backdoor_audit.client.errors import NotFound, Unreachable

SPEC = {"base_model": "local:a", "fine_tuned": "local:b", "trigger": {"triggered": "a", "clean": "b"}}


def test_it_has_every_method_of_the_blocking_one_with_the_same_arguments():
    def methods(kind):
        return {name: member for name, member in vars(kind).items() if not name.startswith("_") and callable(member)}

    blocking, awaited = methods(AuditClient), methods(AsyncAuditClient)
    for name, method in awaited.items():
        assert inspect.signature(method).parameters.keys() == inspect.signature(blocking[name]).parameters.keys(), name
    assert set(blocking) == set(awaited)


def test_submit_wait_report_and_cancel(service, make_report):
    async def use():
        async with AsyncAuditClient(service.url) as client:
            filed = await client.submit(SPEC)
            seen = []
            waiting = asyncio.create_task(client.wait(filed.id, on_update=seen.append, timeout_s=60))
            while not seen:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(service.finish, filed.id, make_report("no_evidence"))
            ended = await waiting
            report = await client.report(filed.id)
            cancelled = await client.cancel((await client.submit(SPEC)).id)
            models = await client.models()
            with pytest.raises(NotFound):
                await client.get("audit_00000000000000000000000000")
            return seen, ended, report, cancelled, models

    seen, ended, report, cancelled, models = asyncio.run(use())
    assert seen[0].status == "queued"
    assert ended.status == "succeeded"
    assert report.verdict == "no_evidence"
    assert cancelled.status == "cancelled"
    assert isinstance(models, list)


def test_nobody_there():
    async def use():
        async with AsyncAuditClient("http://127.0.0.1:1") as client:
            await client.get("audit_1")

    with pytest.raises(Unreachable):
        asyncio.run(use())
