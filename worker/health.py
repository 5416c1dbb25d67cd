"""``python -m worker.health``: the health check of a worker's container.

It tries out the broker and the ledger, not the worker: a worker may be busy with an audit for hours, and one that died
is restarted by whatever runs the container.
"""

import sys

import structlog

from common.logs import configure
from jobs.errors import LedgerError
from jobs.ledger import Ledger
from worker.dispatch import Dispatcher
from worker.errors import WorkerError
from worker.settings import WorkerSettings

log = structlog.get_logger(__name__)


def main() -> int:
    """Return 0 when broker and ledger take writes and the schema is the one that this code needs, else 1."""
    configure()
    try:
        settings = WorkerSettings.load()
        ledger = Ledger(settings.database_url)
        try:
            with Dispatcher(settings.broker_url) as dispatcher:
                dispatcher.ping()
            healthy = ledger.schema_is_current()
            if healthy:
                ledger.ping()
        finally:
            ledger.close()
    except (LedgerError, WorkerError) as error:
        log.error("health.failed", error=type(error).__name__)
        return 1
    return 0 if healthy else 1


if __name__ == "__main__":
    sys.exit(main())
