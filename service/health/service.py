"""Whether the service can take audits."""

import os
from collections.abc import Callable
from typing import Final

from jobs.errors import LedgerError, SchemaMismatch
from service.dependencies import Dependencies
from service.errors import ErrorItem, NotReady
from worker.errors import WorkerError


def check_ready(dependencies: Dependencies) -> None:
    """Try out ledger, broker and models root; the first two must take writes.

    Raises:
        NotReady: names each one that cannot be used.
    """
    items = []
    for component, check in _CHECKS:
        try:
            check(dependencies)
        except (LedgerError, WorkerError, OSError) as error:
            items.append(ErrorItem("service", f"#/{component}", f"cannot be used ({type(error).__name__})"))
    if items:
        raise NotReady(errors=items)


def _check_ledger(dependencies: Dependencies) -> None:
    if not dependencies.ledger.schema_is_current():
        raise SchemaMismatch("schema is not current")
    dependencies.ledger.ping()


def _check_broker(dependencies: Dependencies) -> None:
    dependencies.dispatcher.ping()


def _check_models_root(dependencies: Dependencies) -> None:
    with os.scandir(dependencies.settings.models_root):
        pass


_CHECKS: Final[tuple[tuple[str, Callable[[Dependencies], None]], ...]] = (
    ("ledger", _check_ledger),
    ("broker", _check_broker),
    ("models_root", _check_models_root),
)
