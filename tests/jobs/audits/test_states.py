"""The table of transitions."""

from typing import get_args

import pytest

from backdoor_audit.contract.lifecycle import TERMINAL, Status
from jobs.audits.states import LIVE, TRANSITIONS, Action, after

STATES = get_args(Status)


@pytest.mark.parametrize("status", sorted(TERMINAL))
@pytest.mark.parametrize("action", list(Action))
def test_nothing_leaves_a_terminal_state(status, action):
    assert after(status, action) is None


def test_every_state_can_be_reached_and_every_open_one_left():
    assert set(TRANSITIONS.values()) | {"queued"} == set(STATES)
    assert {status for status, _ in TRANSITIONS} == set(STATES) - TERMINAL


def test_a_cancel_that_was_accepted_is_kept():
    assert {after("cancelling", action) for action in Action} <= {None, "cancelling", "cancelled"}


def test_only_a_queued_audit_is_claimed():
    assert [status for status in STATES if after(status, Action.CLAIM)] == ["queued"]


def test_whoever_holds_a_lease_can_end_it_in_every_way():
    for status in LIVE:
        for action in set(Action) - {Action.CLAIM, Action.CANCEL}:
            assert after(status, action) is not None


def test_the_table_is_read_only():
    with pytest.raises(TypeError):
        TRANSITIONS["succeeded", Action.CLAIM] = "running"
