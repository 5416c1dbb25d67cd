"""The object stores that artifacts may lie in, and what becomes of the errors of the library that talks to them.

Credentials and the address of the service come from the environment, as that library reads them (``AWS_…``,
``GOOGLE_…``, ``AZURE_…``); they pass through no setting of ours. It is an extra, imported when it is first needed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from storage.errors import InvalidLocation, StorageUnavailable

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES: Final = ("s3", "gs", "az")

_RETRY_WITHIN: Final = timedelta(seconds=10)
_RETRIES: Final = 4


def open_store(location: str) -> "ObjectStore":
    """The object store at an address; connects to nothing yet.

    Raises:
        InvalidLocation: it is no such address, it holds more than that (a password, a query), or the library is not
            installed.
    """
    parts = urlsplit(location)
    hint = "give s3://bucket/prefix, gs://bucket/prefix or az://account/container/prefix"
    if parts.scheme not in SCHEMES or not parts.netloc:
        raise InvalidLocation("this is not the address of an object store", hint=hint)
    if "@" in parts.netloc or ":" in parts.netloc or parts.query or parts.fragment:
        raise InvalidLocation(
            "the address of artifacts must consist of a bucket and a prefix only",
            hint=f"{hint}; credentials and endpoint come from the environment (such as AWS_ACCESS_KEY_ID)",
        )
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError as error:
        raise InvalidLocation(
            f"artifacts at {parts.scheme}:// need a library that is not installed",
            hint="pip install 'backdoor-audit[objects]'",
        ) from error
    settings: dict[str, Any] = {"retry_config": {"max_retries": _RETRIES, "retry_timeout": _RETRY_WITHIN}}
    try:
        return from_url(location, **settings)
    except (BaseError, ValueError):
        # Its text repeats what it was given, the environment's part included.
        raise InvalidLocation("the address or the settings of the object store are not usable", hint=hint) from None


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn the library's errors into this room's. Their texts stay here: they repeat addresses, which may be signed."""
    from obstore import exceptions

    try:
        yield
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, PermissionError):
        raise StorageUnavailable(
            f"{doing} failed: the object store refused the credentials",
            hint="check the credentials in the environment, and their rights on the bucket",
        ) from None
    except (exceptions.NotFoundError, FileNotFoundError):
        raise StorageUnavailable(
            f"{doing} failed: the object store has no such bucket or object", hint="check BACKDOOR_AUDIT_ARTIFACTS_URL"
        ) from None
    except exceptions.BaseError as error:
        raise StorageUnavailable(
            f"{doing} failed: the object store did not respond as expected ({type(error).__name__})",
            hint="check that it is up and can be reached",
        ) from None
