import errno
import inspect
from typing import get_args

import pytest

from backdoor_audit.contract.lifecycle import FailureCode
from models_store import errors
from models_store.errors import NoSpace, StoreError, StoreUnavailable, translated
from storage.errors import DiskFull, StorageUnavailable

CLASSES = [item for _, item in inspect.getmembers(errors, inspect.isclass) if issubclass(item, StoreError)]


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_has_a_published_code_and_is_drawn(error):
    assert error.code in get_args(FailureCode)
    assert error.__name__ in errors.__doc__


def test_an_error_carries_message_and_hint():
    error = StoreError("what", hint="do")
    assert (str(error), error.message, error.hint) == ("what", "what", "do")


@pytest.mark.parametrize(
    ("number", "expected"), [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EACCES, StoreUnavailable)]
)
def test_the_file_systems_errors_are_translated_with_their_cause(number, expected):
    with pytest.raises(expected) as caught, translated("writing"):
        raise OSError(number, "reason")
    assert isinstance(caught.value.__cause__, OSError)
    assert "writing" in caught.value.message


@pytest.mark.parametrize(("raised", "expected"), [(DiskFull, NoSpace), (StorageUnavailable, StoreUnavailable)])
def test_errors_of_storage_become_this_rooms_with_message_and_hint(raised, expected):
    with pytest.raises(expected) as caught, translated("writing"):
        raise raised("the disk of the cache", hint="look at it")
    assert (caught.value.message, caught.value.hint) == ("the disk of the cache", "look at it")
    assert isinstance(caught.value.__cause__, raised)


def test_other_errors_come_through():
    with pytest.raises(ValueError, match="not ours"), translated("writing"):
        raise ValueError("not ours")
