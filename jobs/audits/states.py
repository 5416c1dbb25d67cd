"""The state machine of an audit: every transition that there is, in one table.

::

                    ┌──── release, lose ────┐
                    ▼                       │
    submit ──▶ queued ──── claim ────▶ running ── succeed ──▶ succeeded
                 │ │                    │ │  └─── fail, exhaust, overdue ──▶ failed
                 │ └─ overdue ▶ failed  │ └────── stop ──▶ cancelled
                 │                      │
               cancel                 cancel
                 ▼                      ▼
             cancelled ◀── any end ── cancelling

A cancel that was accepted is kept: whatever the worker says while the audit is ``cancelling`` (a report, a failure, a
release, or nothing at all) ends it ``cancelled``, and a report that arrives then is dropped. A report that was stored
before the cancel came stays. So the order in which the ledger commits decides, and there is one terminal state.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from backdoor_audit.contract.spec import Status


class Signal(StrEnum):
    """What can happen to an audit."""

    CLAIM = "claim"
    """A worker takes it."""
    CANCEL = "cancel"
    """Somebody asks for it to stop."""
    SUCCEED = "succeed"
    """The worker hands in a report."""
    FAIL = "fail"
    """The worker says why it could not be done."""
    STOP = "stop"
    """The worker says that it has stopped for a cancel."""
    RELEASE = "release"
    """The worker is being shut down and gives it back."""
    LOSE = "lose"
    """The lease ran out, attempts are left."""
    EXHAUST = "exhaust"
    """The lease ran out and it was the last attempt."""
    OVERDUE = "overdue"
    """Nobody works on it and its deadline has passed."""


_Table = Mapping[tuple[Status, Signal], Status]

TRANSITIONS: Final[_Table] = MappingProxyType(
    {
        ("queued", Signal.CLAIM): "running",
        ("queued", Signal.CANCEL): "cancelled",
        ("queued", Signal.OVERDUE): "failed",
        ("running", Signal.CANCEL): "cancelling",
        ("running", Signal.SUCCEED): "succeeded",
        ("running", Signal.FAIL): "failed",
        ("running", Signal.STOP): "cancelled",
        ("running", Signal.RELEASE): "queued",
        ("running", Signal.LOSE): "queued",
        ("running", Signal.EXHAUST): "failed",
        ("running", Signal.OVERDUE): "failed",
        ("cancelling", Signal.CANCEL): "cancelling",
        ("cancelling", Signal.SUCCEED): "cancelled",
        ("cancelling", Signal.FAIL): "cancelled",
        ("cancelling", Signal.STOP): "cancelled",
        ("cancelling", Signal.RELEASE): "cancelled",
        ("cancelling", Signal.LOSE): "cancelled",
        ("cancelling", Signal.EXHAUST): "cancelled",
        ("cancelling", Signal.OVERDUE): "cancelled",
    }
)
"""(state, signal) → next state. What is not here does not happen; terminal states have no way out."""

LIVE: Final[frozenset[Status]] = frozenset({"running", "cancelling"})
"""States in which one worker holds the lease."""


def after(status: Status, signal: Signal) -> Status | None:
    """Return the state that ``signal`` leads to from ``status``, or None where it changes nothing."""
    return TRANSITIONS.get((status, signal))
