"""Keys, without HTTP."""

import pytest

from service.keys.schemas import KeySpec
from service.keys.service import create_key


@pytest.mark.parametrize(("named", "owner"), [(None, "ann"), ("ci", "ci")])
def test_a_key_is_the_callers_unless_it_names_an_owner(dependencies, named, owner):
    wanted = KeySpec(name="pipeline", scopes=("audits:read",), owner=named, expires_in_s=60)
    record, token = create_key(dependencies, "ann", wanted)
    assert (record.owner, record.name, set(record.scopes)) == (owner, "pipeline", {"audits:read"})
    assert (record.expires_at - record.created_at).total_seconds() == 60
    assert dependencies.ledger.keys.check(token).id == record.id
    assert token not in repr(record)
