"""The one task of the worker: take an id, claim an audit, carry the attempt to its end.

The id says that an audit is queued. Which one is claimed, the ledger decides, so that owners have turns.
"""

import os
import socket
import time
from collections.abc import Callable
from typing import Final

import structlog
from celery import Celery

from jobs.errors import DocumentUnreadable, LedgerUnavailable, SchemaMismatch, SpecTooNew
from jobs.records import Claim
from worker.app import TASK
from worker.attempts.attempt import Attempt
from worker.attempts.context import WorkerContext
from worker.dispatch import Dispatcher
from worker.errors import BrokerUnavailable

_RETRY_S: Final = 1.0

log = structlog.get_logger(__name__)


def register(app: Celery, context: WorkerContext, dispatcher: Dispatcher, leave: Callable[[], None]) -> None:
    """Register the task that runs audits; ``leave`` is called when this worker can run no more of them."""

    @app.task(name=TASK, ignore_result=True)  # type: ignore[untyped-decorator]
    def run_audit(audit_id: str) -> None:
        perform(context, dispatcher, audit_id, leave)


def perform(context: WorkerContext, dispatcher: Dispatcher, audit_id: str, leave: Callable[[], None]) -> None:
    """Run one audit of the owner whose turn it is, unless nothing is queued that this worker can read."""
    if context.shutdown.requested:
        _put_back(dispatcher, audit_id)
        return
    try:
        claim = _claim(context, audit_id)
    except (SpecTooNew, DocumentUnreadable) as error:
        # Other audits may be of this version. The ledger hands this one out again, until a newer worker takes it.
        log.error("audit.skipped", audit_id=audit_id, reason=str(error))
        return
    except SchemaMismatch as error:
        log.error("worker.outdated", reason=str(error))
        _put_back(dispatcher, audit_id)
        leave()
        return
    if claim is None:
        return
    with structlog.contextvars.bound_contextvars(audit_id=claim.audit_id, attempt=claim.attempt):
        Attempt(context, claim).run()


def worker_name() -> str:
    """Return the name that claims carry: this host and process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _claim(context: WorkerContext, audit_id: str) -> Claim | None:
    """Claim, waiting for a ledger that is down: the message has left the broker, so nobody else will try soon.

    Raises:
        SchemaMismatch: newer code has migrated the database.
        SpecTooNew, DocumentUnreadable: newer code has filed the audit.
    """
    while True:
        try:
            return context.ledger.take_turn(audit_id, worker=worker_name())
        except LedgerUnavailable:
            if context.shutdown.requested:
                return None
            log.warning("ledger.awaited", audit_id=audit_id)
            time.sleep(_RETRY_S)


def _put_back(dispatcher: Dispatcher, audit_id: str) -> None:
    """Return a message that came too late; if that fails, the reaper sends it again."""
    try:
        dispatcher.enqueue(audit_id)
    except BrokerUnavailable:
        log.warning("message.dropped", audit_id=audit_id)
