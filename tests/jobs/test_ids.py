"""Audit ids."""

import time

import pytest

from jobs.ids import is_audit_id, new_audit_id


def test_form_and_uniqueness():
    ids = {new_audit_id() for _ in range(2_000)}
    assert len(ids) == 2_000
    assert all(is_audit_id(audit_id) and len(audit_id) == 32 and audit_id.lower() == audit_id for audit_id in ids)


def test_later_ids_sort_after_earlier_ones():
    made = []
    for _ in range(20):
        made.append(new_audit_id())
        time.sleep(0.002)
    assert made == sorted(made)


@pytest.mark.parametrize("text", ["", "audit_", "audit_" + "u" * 26, "audit_" + "0" * 27, "AUDIT_" + "0" * 26])
def test_what_is_no_id(text):
    assert not is_audit_id(text)
    assert not is_audit_id(new_audit_id() + "\n")
