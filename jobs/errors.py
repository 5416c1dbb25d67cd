"""The errors of the ledger.

::

    LedgerError                     anything the ledger could not do
    ├── AuditNotFound               no such audit, or another owner's
    ├── AuditNotTerminal            the call needs an audit that has ended
    ├── ReportNotReady              the audit has no report yet
    │   └── NoReport                the audit ended without a report
    ├── IdempotencyConflict         the key was used before, with another body
    ├── KeyNotFound                 no such API key
    ├── LibraryNotFound             no such benign library, or another owner's
    ├── LibraryNameTaken            the owner has a library of this name
    ├── LibraryInUse                an audit that has not ended compares with the library
    ├── TooManyDecisions            an audit has as many decisions as one may have
    ├── LibraryFull                 the library, or the owner's list of libraries, is full
    ├── EntryNotFound               no such entry in this library
    ├── EntryRefused                the audit has no score that a library could take
    ├── EntryExists                 the library holds this model already
    ├── QueueFull                   the owner's queue is full
    ├── WebhookNotFound             no such webhook, or another owner's
    ├── WebhookTaken                the owner has a webhook with this address already
    ├── TooManyWebhooks             the owner has the maximum number of webhooks
    ├── WebhookDisabled             the receiver answered 410 Gone; nothing more is sent
    ├── DeliveryNotFound            no such delivery of this webhook
    ├── UnknownWebhook              a spec names an address that is none of the owner's webhooks
    ├── InvalidPageToken            a page token that this ledger did not make for this listing
    ├── LeaseLost                   the claim is no longer the live one; nothing was written
    ├── SchemaMismatch              database and code are of different versions
    │   └── DocumentUnreadable      one stored spec or report is not one to this code
    ├── SpecTooNew                  newer code filed the audit; a newer worker must take it
    └── LedgerUnavailable           the database cannot be reached or stays locked; try again later
"""

from typing import ClassVar, Final

from backdoor_audit.contract.lifecycle import Status
from common.problem_type import INTERNAL, INVALID_REQUEST, ProblemType


class LedgerError(Exception):
    """Anything the ledger could not do; the cause, if there is one, is ``__cause__``."""

    problem: ClassVar[ProblemType] = INTERNAL


class AuditNotFound(LedgerError):
    """There is no such audit, or it belongs to another owner: the two look the same on purpose."""

    problem: ClassVar[ProblemType] = ProblemType(
        "audit_not_found", "Audit not found", "There is no audit with this id."
    )

    def __init__(self, audit_id: str) -> None:
        super().__init__(f"there is no audit {audit_id!r}")
        self.audit_id: Final = audit_id


class AuditNotTerminal(LedgerError):
    """The call needs an audit that has ended."""

    problem: ClassVar[ProblemType] = ProblemType(
        "audit_not_terminal", "Audit not finished", "Only a finished audit can be deleted. Cancel it first."
    )

    def __init__(self, audit_id: str, status: Status) -> None:
        super().__init__(f"audit {audit_id} is {status} and has not ended")
        self.audit_id: Final = audit_id
        self.status: Final = status


class ReportNotReady(LedgerError):
    """The audit has no report yet."""

    problem: ClassVar[ProblemType] = ProblemType(
        "report_not_ready", "Report not ready", "The audit has not finished. Its report is written when it has."
    )

    def __init__(self, audit_id: str, status: Status) -> None:
        super().__init__(f"audit {audit_id} is {status} and has no report")
        self.audit_id: Final = audit_id
        self.status: Final = status


class NoReport(ReportNotReady):
    """The audit ended without a report, and never will have one."""

    problem: ClassVar[ProblemType] = ProblemType(
        "no_report", "No report", "The audit ended without a report; its `status` and `failure` say why."
    )


class IdempotencyConflict(LedgerError):
    """The owner used this idempotency key before, with another spec."""

    problem: ClassVar[ProblemType] = ProblemType(
        "idempotency_conflict", "Idempotency key reused", "This Idempotency-Key was already used with a different body."
    )

    def __init__(self) -> None:
        super().__init__("the idempotency key was used before with another body")


class KeyNotFound(LedgerError):
    """There is no API key with this id."""

    problem: ClassVar[ProblemType] = ProblemType("key_not_found", "Key not found", "There is no API key with this id.")


class LibraryNotFound(LedgerError):
    """There is no such benign library, or it belongs to another owner: the two look the same on purpose."""

    problem: ClassVar[ProblemType] = ProblemType(
        "library_not_found", "Library not found", "There is no benign library with this id or name."
    )

    def __init__(self, reference: str) -> None:
        super().__init__(f"there is no library {reference!r}")
        self.reference: Final = reference


class LibraryNameTaken(LedgerError):
    """The owner has a library of this name."""

    problem: ClassVar[ProblemType] = ProblemType(
        "library_name_taken", "Name taken", "You already have a library with this name."
    )


class LibraryInUse(LedgerError):
    """An audit that has not ended compares with the library."""

    problem: ClassVar[ProblemType] = ProblemType(
        "library_in_use", "Library in use", "An unfinished audit compares with this library."
    )


class LibraryFull(LedgerError):
    """The library, or the owner's list of libraries, is full."""

    problem: ClassVar[ProblemType] = ProblemType(
        "library_full",
        "Library limit reached",
        "The library has as many entries, or you have as many libraries, as are allowed.",
    )


class TooManyDecisions(LedgerError):
    """An audit has as many decisions as one may have."""

    problem: ClassVar[ProblemType] = ProblemType(
        "too_many_decisions", "Too many decisions", "The audit has as many decisions as one may have."
    )


class EntryNotFound(LedgerError):
    """There is no such entry in this library."""

    problem: ClassVar[ProblemType] = ProblemType(
        "entry_not_found", "Entry not found", "The library has no entry with this id."
    )


class EntryRefused(LedgerError):
    """The audit has no score that a library could take; ``reason`` says why and holds nothing of a client's."""

    problem: ClassVar[ProblemType] = ProblemType(
        "entry_refused", "No usable score", "The audit has no score that a library can take."
    )

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason: Final = reason


class EntryExists(LedgerError):
    """The library holds a score of this model already: one per model."""

    problem: ClassVar[ProblemType] = ProblemType(
        "entry_exists", "Model already in library", "The library already has a score for this model."
    )


class QueueFull(LedgerError):
    """The owner's queue is full; there is room again when a worker takes an audit."""

    problem: ClassVar[ProblemType] = ProblemType(
        "queue_full", "Queue full", "You have reached the limit of queued audits. Try again when some have started."
    )


class WebhookNotFound(LedgerError):
    """There is no webhook with this id, or it is another owner's."""

    problem: ClassVar[ProblemType] = ProblemType(
        "webhook_not_found", "Webhook not found", "There is no webhook with this id."
    )


class WebhookTaken(LedgerError):
    """The owner has a webhook with this address already."""

    problem: ClassVar[ProblemType] = ProblemType(
        "webhook_taken", "Already registered", "You already have a webhook with this URL."
    )


class TooManyWebhooks(LedgerError):
    """The owner has the maximum number of webhooks."""

    problem: ClassVar[ProblemType] = ProblemType(
        "too_many_webhooks", "Webhook limit reached", "Delete a webhook before you add another."
    )


class WebhookDisabled(LedgerError):
    """The webhook is disabled, because its receiver answered 410 Gone."""

    problem: ClassVar[ProblemType] = ProblemType(
        "webhook_disabled",
        "Webhook disabled",
        "The receiver answered 410 Gone. Delete the webhook, and register it again once the receiver is back.",
    )


class DeliveryNotFound(LedgerError):
    """The webhook has no delivery with this id."""

    problem: ClassVar[ProblemType] = ProblemType(
        "delivery_not_found", "Delivery not found", "The webhook has no delivery with this id."
    )


class UnknownWebhook(LedgerError):
    """The spec names an address that is none of its owner's webhooks."""

    problem: ClassVar[ProblemType] = INVALID_REQUEST


class InvalidPageToken(LedgerError):
    """The page token is not one of ours, or was made for other filters."""

    problem: ClassVar[ProblemType] = INVALID_REQUEST


class LeaseLost(LedgerError):
    """The claim was taken away or has ended; the write that raised this changed nothing."""

    problem: ClassVar[ProblemType] = INTERNAL

    def __init__(self, audit_id: str, attempt: int) -> None:
        super().__init__(f"attempt {attempt} of audit {audit_id} no longer holds the lease")
        self.audit_id: Final = audit_id
        self.attempt: Final = attempt


class SchemaMismatch(LedgerError):
    """The database's schema is not the one that this code was written for."""

    problem: ClassVar[ProblemType] = ProblemType(
        "schema_mismatch",
        "Version mismatch",
        "The database and this service have different versions. The operator must update one of them.",
    )


class DocumentUnreadable(SchemaMismatch):
    """A stored spec or report is not one to this code, though the schema is."""

    problem: ClassVar[ProblemType] = SchemaMismatch.problem


class SpecTooNew(LedgerError):
    """Newer code filed the audit; this code leaves it queued for a worker that can read it."""

    problem: ClassVar[ProblemType] = SchemaMismatch.problem

    def __init__(self, audit_id: str, found: str, known: str) -> None:
        super().__init__(f"audit {audit_id} has a spec of version {found}, this code reads {known} and older")
        self.audit_id: Final = audit_id
        self.found: Final = found
        self.known: Final = known


class LedgerUnavailable(LedgerError):
    """The database cannot be reached, or stayed locked for longer than the bound; trying again later may help."""

    problem: ClassVar[ProblemType] = ProblemType(
        "ledger_unavailable", "Ledger unavailable", "The database did not answer. Try again."
    )
