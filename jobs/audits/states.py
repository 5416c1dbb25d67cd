"""The state machine of an audit: every transition that there is, in one table.

::

                    ┌──── release, lose ────┐
                    ▼                       │
    submit ──▶ queued ──── claim ────▶ running ── succeed ──▶ succeeded
                 │ │                    │ │  └─── fail, exhaust, expire ───▶ failed
                 │ └─ expire ─▶ failed  │ └────── stop ──▶ cancelled
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

from backdoor_audit.contract.lifecycle import Status


class Action(StrEnum):
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
    EXPIRE = "expire"
    """Nobody works on it and its deadline has passed."""


_Table = Mapping[tuple[Status, Action], Status]

TRANSITIONS: Final[_Table] = MappingProxyType(
    {
        ("queued", Action.CLAIM): "running",
        ("queued", Action.CANCEL): "cancelled",
        ("queued", Action.EXPIRE): "failed",
        ("running", Action.CANCEL): "cancelling",
        ("running", Action.SUCCEED): "succeeded",
        ("running", Action.FAIL): "failed",
        ("running", Action.STOP): "cancelled",
        ("running", Action.RELEASE): "queued",
        ("running", Action.LOSE): "queued",
        ("running", Action.EXHAUST): "failed",
        ("running", Action.EXPIRE): "failed",
        ("cancelling", Action.CANCEL): "cancelling",
        ("cancelling", Action.SUCCEED): "cancelled",
        ("cancelling", Action.FAIL): "cancelled",
        ("cancelling", Action.STOP): "cancelled",
        ("cancelling", Action.RELEASE): "cancelled",
        ("cancelling", Action.LOSE): "cancelled",
        ("cancelling", Action.EXHAUST): "cancelled",
        ("cancelling", Action.EXPIRE): "cancelled",
    }
)
"""(state, action) → next state. What is not here does not happen; terminal states have no way out."""

LIVE: Final[frozenset[Status]] = frozenset({"running", "cancelling"})
"""States in which one worker holds the lease."""


def after(status: Status, action: Action) -> Status | None:
    """Return the state that ``action`` leads to from ``status``, or None if it changes nothing."""
    return TRANSITIONS.get((status, action))
