"""The errors of the ledger.

::

    LedgerError                     anything the ledger could not do
    ├── AuditNotFound               no such audit, or another owner's
    ├── AuditNotTerminal            the call needs an audit that has ended
    ├── ReportNotReady              the audit has no report (yet, or ever)
    ├── IdempotencyConflict         the key was used before, with another body
    ├── KeyNotFound                 no such API key
    ├── LibraryNotFound             no such benign library, or another owner's
    ├── LibraryNameTaken            the owner has a library of this name
    ├── LibraryInUse                an audit that has not ended compares with the library
    ├── LibraryFull                 the library, or the owner's list of them, is as long as it may be
    ├── EntryNotFound               no such entry in this library
    ├── EntryRefused                the audit has no score that a library could take
    ├── EntryExists                 the library holds this model already
    ├── QueueFull                   the owner has as many audits queued as one may have
    ├── WebhookNotFound             no such webhook, or another owner's
    ├── WebhookTaken                the owner has a webhook with this address already
    ├── TooManyWebhooks             the owner has as many webhooks as there may be
    ├── WebhookDisabled             the webhook is told nothing more; its other side is gone
    ├── DeliveryNotFound            no such delivery of this webhook
    ├── UnknownWebhook              a spec names an address that is none of the owner's webhooks
    ├── InvalidPageToken            a page token that this ledger did not make for this listing
    ├── LeaseLost                   the claim is no longer the live one; nothing was written
    ├── SchemaMismatch              database and code are of different versions
    │   └── DocumentUnreadable      one stored spec or report is not one to this code
    ├── SpecTooNew                  newer code filed the audit; a newer worker must take it
    └── LedgerUnavailable           the database cannot be reached or stays locked; try again later
"""

from typing import Final

from backdoor_audit.contract.spec import Status


class LedgerError(Exception):
    """Anything the ledger could not do; the cause, where there is one, is ``__cause__``."""


class AuditNotFound(LedgerError):
    """There is no such audit, or it belongs to another owner: the two look the same on purpose."""

    def __init__(self, audit_id: str) -> None:
        super().__init__(f"there is no audit {audit_id!r}")
        self.audit_id: Final = audit_id


class AuditNotTerminal(LedgerError):
    """The call needs an audit that has ended."""

    def __init__(self, audit_id: str, status: Status) -> None:
        super().__init__(f"audit {audit_id} is {status} and has not ended")
        self.audit_id: Final = audit_id
        self.status: Final = status


class ReportNotReady(LedgerError):
    """The audit has no report; ``status`` tells whether there can still be one."""

    def __init__(self, audit_id: str, status: Status) -> None:
        super().__init__(f"audit {audit_id} is {status} and has no report")
        self.audit_id: Final = audit_id
        self.status: Final = status


class IdempotencyConflict(LedgerError):
    """The owner used this idempotency key before, with another spec."""

    def __init__(self) -> None:
        super().__init__("the idempotency key was used before with another body")


class KeyNotFound(LedgerError):
    """There is no API key with this id."""


class LibraryNotFound(LedgerError):
    """There is no such benign library, or it belongs to another owner: the two look the same on purpose."""

    def __init__(self, reference: str) -> None:
        super().__init__(f"there is no library {reference!r}")
        self.reference: Final = reference


class LibraryNameTaken(LedgerError):
    """The owner has a library of this name."""


class LibraryInUse(LedgerError):
    """An audit that has not ended compares with the library."""


class LibraryFull(LedgerError):
    """The library, or the owner's list of libraries, is as long as it may be."""


class EntryNotFound(LedgerError):
    """There is no such entry in this library."""


class EntryRefused(LedgerError):
    """The audit has no score that a library could take; ``reason`` says why and holds nothing of a client's."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason: Final = reason


class EntryExists(LedgerError):
    """The library holds a score of this model already: one a model."""


class QueueFull(LedgerError):
    """The owner has as many audits in the queue as one may have; there is room again when a worker takes one."""


class WebhookNotFound(LedgerError):
    """There is no webhook with this id, or it is another owner's."""


class WebhookTaken(LedgerError):
    """The owner has a webhook with this address already."""


class TooManyWebhooks(LedgerError):
    """The owner has as many webhooks as one may have."""


class WebhookDisabled(LedgerError):
    """The webhook is told nothing more, since its other side said that it is gone."""


class DeliveryNotFound(LedgerError):
    """The webhook has no delivery with this id."""


class UnknownWebhook(LedgerError):
    """The spec names an address that is none of its owner's webhooks."""


class InvalidPageToken(LedgerError):
    """The page token is not one of ours, or was made for other filters."""


class LeaseLost(LedgerError):
    """The claim was taken away or has ended; the write that raised this changed nothing."""

    def __init__(self, audit_id: str, attempt: int) -> None:
        super().__init__(f"attempt {attempt} of audit {audit_id} no longer holds the lease")
        self.audit_id: Final = audit_id
        self.attempt: Final = attempt


class SchemaMismatch(LedgerError):
    """The database's schema is not the one that this code was written for."""


class DocumentUnreadable(SchemaMismatch):
    """A stored spec or report is not one to this code, though the schema is."""


class SpecTooNew(LedgerError):
    """Newer code filed the audit; this code leaves it queued for a worker that can read it."""

    def __init__(self, audit_id: str, found: str, known: str) -> None:
        super().__init__(f"audit {audit_id} has a spec of version {found}, this code reads {known} and older")
        self.audit_id: Final = audit_id
        self.found: Final = found
        self.known: Final = known


class LedgerUnavailable(LedgerError):
    """The database cannot be reached, or stayed locked for longer than the bound; trying again later may help."""
