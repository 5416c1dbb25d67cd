"""``python -m worker``: runs one worker for one device until it is stopped.

After one SIGTERM (or Ctrl-C), the running audit stops at its next progress report and returns to the queue, keeping its
stage. After a second one, or after the grace period, its sandbox is killed, and the audit also returns to the queue.
"""

import logging
import signal
import sys
import time
from typing import Any, Final

import structlog
from celery import signals
from celery.worker import state

from common.logs import configure
from common.private_files import keep_private, write_privately
from jobs.errors import LedgerError, LedgerUnavailable
from jobs.ledger import Ledger
from models_store.store import ModelsStore
from storage.artifacts import ArtifactStore
from storage.errors import InvalidLocation
from storage.locations import is_object_store
from storage.objects import ObjectArtifacts
from worker.app import create_app
from worker.attempts.context import WorkerContext
from worker.dispatch import Dispatcher
from worker.errors import SettingsError
from worker.foreign_messages import CarefulConsumer, use_careful_transport
from worker.reaper import Reaper
from worker.sandbox.confinement import hide_memory
from worker.sandbox.left_over import end_orphans
from worker.sandbox.orphans import Orphans
from worker.settings import WorkerSettings
from worker.shutdown import Shutdown
from worker.tasks import register, worker_name

EXIT_USAGE: Final = 2
"""The settings are invalid."""
EXIT_UNAVAILABLE: Final = 3
"""The database does not respond, or its schema has another version, at startup or since newer code migrated it."""

_MIGRATE_PATIENCE_S: Final = 60.0
_KILL_S: Final = 5.0

log = structlog.get_logger(__name__)


def main() -> int:
    """Read the environment, run the worker, return its exit status."""
    configure()
    write_privately()
    hide_memory()  # The environment may contain a password, and sandboxes run as the same user.
    try:
        settings = WorkerSettings.load()
    except SettingsError as error:
        log.error("settings.rejected", reason=str(error))
        return EXIT_USAGE
    return run(settings)


def run(settings: WorkerSettings) -> int:
    """Serve audits with ``settings`` until a signal ends it; return the exit status."""
    try:
        published = ObjectArtifacts(settings.artifacts_url) if is_object_store(settings.artifacts_url) else None
        workspaces = ArtifactStore(settings.workspaces)
    except InvalidLocation as error:
        log.error("settings.rejected", reason=f"artifacts_url: {error.message}", hint=error.hint)
        return EXIT_USAGE
    try:
        keep_private(settings.data_dir)
    except OSError as error:
        log.error("settings.rejected", reason=f"data_dir: {error}")
        return EXIT_USAGE
    ledger = Ledger(
        settings.database_url,
        lease_s=settings.lease_s,
        max_attempts=settings.max_attempts,
        requeue_after_s=settings.requeue_after_s,
        max_deadline_s=settings.max_deadline_s,
    )
    try:
        _migrate(ledger)
    except LedgerError as error:
        log.error("ledger.rejected", error=type(error).__name__, reason=str(error))
        return EXIT_UNAVAILABLE
    context = WorkerContext(
        settings=settings,
        ledger=ledger,
        models=ModelsStore.from_settings(settings),
        artifacts=workspaces,
        shutdown=Shutdown(),
        orphans=Orphans.adopt(),
        published=published,
    )
    dispatcher = Dispatcher(settings.broker_url)
    reaper = Reaper(
        ledger,
        dispatcher,
        reap_s=settings.reap_s,
        patience_s=2 * settings.heartbeat_s,
        artifacts=context.artifacts,
        published=published,
    )
    end_orphans(settings.sandbox_records, timeout_s=_KILL_S)
    reaper.start()
    try:
        return _consume(context, dispatcher)
    finally:
        reaper.stop()
        dispatcher.close()
        ledger.close()


def _consume(context: WorkerContext, dispatcher: Dispatcher) -> int:
    """Run the Celery worker in this thread."""
    shutdown = context.shutdown
    use_careful_transport()
    app = create_app(context.settings.broker_url)
    app.conf.worker_consumer = CarefulConsumer

    def leave() -> None:
        """Have Celery end the worker after the running task."""
        state.should_stop = EXIT_UNAVAILABLE

    register(app, context, dispatcher, leave)

    def keep_logging(**_: Any) -> None:
        """Celery does not configure logging if this signal has a listener."""

    def on_ready(**_: Any) -> None:
        # Celery would restart the process by its argv, which is not how it was started.
        signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))
        log.info("worker.started", worker=worker_name(), device=context.settings.device)

    def on_shutdown(**_: Any) -> None:
        shutdown.request()

    signals.setup_logging.connect(keep_logging)
    signals.worker_ready.connect(on_ready)
    signals.worker_shutting_down.connect(on_shutdown)
    worker = app.Worker(
        hostname=f"audits-{worker_name()}",
        loglevel=logging.INFO,
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    log.info("worker.stopped", status=worker.exitcode or 0)
    return int(worker.exitcode or 0)


def _migrate(ledger: Ledger) -> None:
    """Bring the schema up to date, waiting for a database that starts at the same time.

    Raises:
        LedgerUnavailable: it did not come up in time.
    """
    give_up_at = time.monotonic() + _MIGRATE_PATIENCE_S
    while True:
        try:
            ledger.migrate()
        except LedgerUnavailable:
            if time.monotonic() >= give_up_at:
                raise
            log.warning("ledger.awaited")
            time.sleep(1)
        else:
            return


if __name__ == "__main__":
    sys.exit(main())
