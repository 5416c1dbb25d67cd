"""How an attempt can end, and what is recorded in the ledger.

=================  ==============================================================
``AuditReport``    succeeded
``Failure``        failed
``CANCELLED``      cancelled: the sandbox has stopped, or was killed
``RELEASED``       the worker shuts down; back to the queue, not counted
``ABANDONED``      the sandbox died, or stopped unasked; lost at once, counted
``FORGOTTEN``      the lease is gone; nothing is recorded
=================  ==============================================================
"""

from enum import Enum, auto
from typing import Final

from backdoor_audit.contract.lifecycle import Failure
from backdoor_audit.contract.report.audit_report import AuditReport
from jobs.ledger import Ledger
from jobs.records import Claim


class End(Enum):
    """The endings without further data."""

    CANCELLED = auto()
    RELEASED = auto()
    ABANDONED = auto()
    FORGOTTEN = auto()


Ending = AuditReport | Failure | End

DEADLINE_PASSED: Final = Failure(
    code="deadline_exceeded",
    message="the audit ran longer than its deadline",
    hint="raise deadline_s, or choose a smaller preset",
)


def tell(ledger: Ledger, claim: Claim, ending: Ending) -> None:
    """Write an ending into the ledger.

    Raises:
        LeaseLost: the claim was taken away or has ended.
        LedgerUnavailable: try again later.
    """
    if isinstance(ending, AuditReport):
        ledger.succeed(claim, ending)
    elif isinstance(ending, Failure):
        ledger.fail(claim, ending)
    elif ending is End.CANCELLED:
        ledger.cancelled(claim)
    elif ending is End.RELEASED:
        ledger.release(claim)
    elif ending is End.ABANDONED:
        ledger.lose(claim, "the audit's process died")


def name_of(ending: Ending) -> str:
    """Return the name of an ending, for the log."""
    return ending.name if isinstance(ending, End) else type(ending).__name__
