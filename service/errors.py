"""The errors that the service itself raises.

::

    ServiceError                    anything that a request handler refuses
    ├── MalformedJson               the body is not one JSON text that everybody reads alike
    ├── InvalidRequest              well-formed, but not what the call takes
    │   └── UnknownLibrary          the spec names a benign library that the owner does not have
    ├── UnsupportedMediaType        a body that is not JSON
    ├── NotAcceptable               a representation that there is not (yet)
    ├── ContentTooLarge             a body over the limit
    ├── Unauthenticated             no key, or one that is not let in
    ├── MissingScope                the key may not do this
    ├── TooManyRequests             the key has made as many requests as it may in a minute
    ├── SignatureRefused            an event that is not signed as it must be, or is too old
    ├── EventsOff                   events of MLflow are not taken here
    ├── NoSuchPath                  no call has this path
    ├── FeatureNotFound             the report flags no such feature
    ├── ArtifactNotFound            the audit left no such file or folder
    ├── RangeNotSatisfiable         the file ends before the part that was asked for
    ├── NotReady                    a part that the service needs does not answer
    └── StartupError                the service refuses to start; never reaches a client
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Place = Literal["body", "query", "header", "path", "service"]


@dataclass(frozen=True)
class ErrorItem:
    """One finding of a problem: where, as a JSON pointer in URI fragment form, and what. Holds no input."""

    place: Place
    pointer: str
    detail: str


class ServiceError(Exception):
    """Anything that a request handler refuses.

    ``detail`` and ``headers`` are shown to clients, so they never hold their input.
    """

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: Sequence[ErrorItem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail or type(self).__name__)
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})


class MalformedJson(ServiceError):
    """The body is not one JSON text that everybody reads alike."""


class InvalidRequest(ServiceError):
    """The request is well-formed, but not what the call takes."""


class UnknownLibrary(InvalidRequest):
    """The spec names a benign library that the owner does not have."""

    def __init__(self) -> None:
        super().__init__(errors=[ErrorItem("body", "#/library", "names no benign library of yours")])


class UnsupportedMediaType(ServiceError):
    """The body is not declared as JSON."""


class NotAcceptable(ServiceError):
    """The representation that was asked for is not there (yet)."""


class ContentTooLarge(ServiceError):
    """The body is over the limit."""


class Unauthenticated(ServiceError):
    """The call needs a key, and the request has none, or one that is wrong, expired or revoked."""

    def __init__(self, *, given: bool) -> None:
        challenge = 'Bearer realm="backdoor-audit"' + (', error="invalid_token"' if given else "")
        detail = "The key is wrong, has expired or was revoked." if given else None
        super().__init__(detail, headers={"WWW-Authenticate": challenge})


class MissingScope(ServiceError):
    """The key is let in, but not for this."""

    def __init__(self, scope: str) -> None:
        challenge = f'Bearer realm="backdoor-audit", error="insufficient_scope", scope="{scope}"'
        super().__init__(f"This call needs a key with the scope {scope}.", headers={"WWW-Authenticate": challenge})


class TooManyRequests(ServiceError):
    """The key has made as many requests as it may in a minute."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(headers={"Retry-After": str(wait_s)})


class SignatureRefused(ServiceError):
    """The event is not signed with the secret that this service shares with its sender, or it is too old."""

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": 'Signature realm="backdoor-audit"'})


class EventsOff(ServiceError):
    """The operator has not set up events of MLflow."""


class NoSuchPath(ServiceError):
    """No call has this path."""


class FeatureNotFound(ServiceError):
    """The report flags no feature with this id."""


class ArtifactNotFound(ServiceError):
    """The audit left no file or folder with this name."""


class RangeNotSatisfiable(ServiceError):
    """The file ends before the part that was asked for."""

    def __init__(self, size: int) -> None:
        super().__init__(headers={"Content-Range": f"bytes */{size}"})


class NotReady(ServiceError):
    """A part that the service needs does not answer."""


class StartupError(ServiceError):
    """The service refuses to start, and says why."""
