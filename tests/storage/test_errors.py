import errno
import inspect
from typing import get_args

import pytest

from backdoor_audit.contract.lifecycle import FailureCode
from storage import errors
from storage.errors import DiskFull, StorageError, StorageUnavailable, translated

CLASSES = [item for _, item in inspect.getmembers(errors, inspect.isclass) if issubclass(item, StorageError)]


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_has_a_published_code_and_is_drawn(error):
    assert error.code in get_args(FailureCode)
    assert error.__name__ in errors.__doc__


@pytest.mark.parametrize(
    ("number", "expected"), [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EACCES, StorageUnavailable)]
)
def test_the_file_systems_errors_are_translated_with_their_cause(number, expected):
    with pytest.raises(expected) as caught, translated("writing"):
        raise OSError(number, "reason")
    assert isinstance(caught.value.__cause__, OSError)
    assert "writing" in caught.value.message
