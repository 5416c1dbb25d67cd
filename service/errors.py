"""The errors that the service itself raises.

::

    ServiceError                    any request that is refused
    ├── MalformedJson               the body is not one unambiguous JSON text
    ├── InvalidRequest              well-formed, but not valid for this call
    │   ├── UnknownLibrary          the spec names a benign library that the owner does not have
    │   └── UnknownModel            the spec names a model that does not exist
    ├── EntryNeedsReason            a flagged audit's model is to join a benign library, and nothing says why
    ├── UnsupportedMediaType        a body that is not JSON
    ├── NotAcceptable               a representation that is not available (yet)
    ├── ContentTooLarge             a body over the limit
    ├── BodyTooSlow                 a body that did not come in time
    ├── Unauthenticated             no key, or an invalid one
    ├── MissingScope                the key lacks a scope
    ├── TooManyRequests             the key has reached its limit of requests per minute
    │   └── TooManyStreams          the owner follows as many audits as one may at once
    ├── SignatureRefused            an event that is not signed correctly, or is too old
    ├── EventsOff                   MLflow events are not enabled
    ├── NoSuchPath                  no call has this path
    ├── MethodNotAllowed            the path does not support the method
    ├── CrossSiteRequest            a page of another site requests a change from a service without keys
    ├── UnknownHost                 a service without keys is addressed by a name that is not its own
    ├── FeatureNotFound             the report flags no such feature
    ├── ArtifactNotFound            the audit left no such file or folder
    ├── RangeNotSatisfiable         the file ends before the requested part
    ├── NotReady                    a component that the service needs does not respond
    └── StartupError                the service refuses to start; never reaches a client
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from common.problem_type import INTERNAL, INVALID_REQUEST, ProblemType
from models_store.errors import ModelNotFound

Place = Literal["body", "query", "header", "path", "service"]


@dataclass(frozen=True)
class ErrorItem:
    """One error in a problem: where, as a JSON pointer in URI fragment form, and what. Contains no input."""

    place: Place
    pointer: str
    detail: str


class ServiceError(Exception):
    """A request that is refused.

    ``detail`` and ``headers`` are shown to clients, so they never contain the client's input.
    """

    problem: ClassVar[ProblemType] = INTERNAL
    status: ClassVar[int | None] = None
    """The HTTP status, if it differs from that of the problem's code."""

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
    """The body is not one unambiguous JSON text."""

    problem: ClassVar[ProblemType] = ProblemType("malformed_json", "Malformed JSON", "The body is not valid JSON.")


class InvalidRequest(ServiceError):
    """The request is well-formed, but not valid for this call."""

    problem: ClassVar[ProblemType] = INVALID_REQUEST


class UnknownLibrary(InvalidRequest):
    """The spec names a benign library that the owner does not have."""

    problem: ClassVar[ProblemType] = INVALID_REQUEST

    def __init__(self) -> None:
        super().__init__(errors=[ErrorItem("body", "#/library", "names no benign library of yours")])


class UnknownModel(InvalidRequest):
    """The spec names a model that is not there. An error in the body, so 422; for a missing model in the path it is
    404.
    """

    problem: ClassVar[ProblemType] = ModelNotFound.problem
    status: ClassVar[int | None] = 422


class EntryNeedsReason(ServiceError):
    """The audit's verdict is not ``no_evidence``, and no reason is given why its model is nevertheless benign."""

    problem: ClassVar[ProblemType] = ProblemType(
        "entry_needs_reason",
        "Reason needed",
        "The audit's verdict is not no_evidence. If you know that the model is benign, say why in `because` "
        "(--because); the library keeps the reason.",
    )


class UnsupportedMediaType(ServiceError):
    """The body is not declared as JSON."""

    problem: ClassVar[ProblemType] = ProblemType(
        "unsupported_media_type", "Unsupported media type", "Send the body as Content-Type: application/json."
    )


class NotAcceptable(ServiceError):
    """The requested representation is not available (yet)."""

    problem: ClassVar[ProblemType] = ProblemType(
        "not_acceptable",
        "Not acceptable",
        "The report is not available in this format; the API document lists the formats.",
    )


class ContentTooLarge(ServiceError):
    """The body is over the limit."""

    problem: ClassVar[ProblemType] = ProblemType(
        "content_too_large", "Body too large", "The body is larger than 8 MiB."
    )


class BodyTooSlow(ServiceError):
    """The body did not come in time."""

    problem: ClassVar[ProblemType] = ProblemType(
        "request_timeout", "Request timeout", "The body of the request did not arrive in time."
    )

    def __init__(self) -> None:
        super().__init__(headers={"Connection": "close"})


class Unauthenticated(ServiceError):
    """The call needs a key, but the request has none, or one that is wrong, expired or revoked."""

    problem: ClassVar[ProblemType] = ProblemType(
        "unauthenticated", "API key required", "This call needs an API key. Send it as `Authorization: Bearer …`."
    )

    def __init__(self, *, given: bool) -> None:
        challenge = 'Bearer realm="backdoor-audit"' + (', error="invalid_token"' if given else "")
        detail = "Invalid, expired or revoked key." if given else None
        super().__init__(detail, headers={"WWW-Authenticate": challenge})


class MissingScope(ServiceError):
    """The key is valid, but lacks a scope."""

    problem: ClassVar[ProblemType] = ProblemType(
        "missing_scope", "Missing scope", "The API key does not have the scope that this call needs."
    )

    def __init__(self, scope: str) -> None:
        challenge = f'Bearer realm="backdoor-audit", error="insufficient_scope", scope="{scope}"'
        super().__init__(f"This call needs a key with the scope {scope}.", headers={"WWW-Authenticate": challenge})


class TooManyRequests(ServiceError):
    """The key has reached its limit of requests per minute."""

    problem: ClassVar[ProblemType] = ProblemType(
        "too_many_requests", "Too many requests", "This key has reached its limit of requests per minute."
    )

    def __init__(self, wait_s: int, detail: str | None = None) -> None:
        super().__init__(detail, headers={"Retry-After": str(wait_s)})


class TooManyStreams(TooManyRequests):
    """The owner follows as many audits as one may at once."""

    problem: ClassVar[ProblemType] = TooManyRequests.problem

    def __init__(self) -> None:
        super().__init__(5, "This owner follows as many audits as one may at once; poll instead.")


class SignatureRefused(ServiceError):
    """The event is not signed with the secret shared with its sender, or it is too old."""

    problem: ClassVar[ProblemType] = ProblemType(
        "signature_refused",
        "Invalid signature",
        "The event is not signed with the shared secret, or its timestamp is not current.",
    )

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": 'Signature realm="backdoor-audit"'})


class EventsOff(ServiceError):
    """The operator has not enabled MLflow events."""

    problem: ClassVar[ProblemType] = ProblemType(
        "events_off",
        "Not configured",
        "This service does not accept MLflow events. Its operator can enable them by setting a secret.",
    )


class NoSuchPath(ServiceError):
    """No call has this path."""

    problem: ClassVar[ProblemType] = ProblemType("not_found", "Not found", "Unknown path.")


class MethodNotAllowed(ServiceError):
    """The path does not support the method."""

    problem: ClassVar[ProblemType] = ProblemType(
        "method_not_allowed",
        "Method not allowed",
        "This path does not support this method; `Allow` lists those it does.",
    )


class CrossSiteRequest(ServiceError):
    """A page of another site requests a change from a service without keys."""

    problem: ClassVar[ProblemType] = ProblemType(
        "cross_site",
        "Cross-site request",
        "A service without keys accepts no changes requested by pages of other sites.",
    )


class UnknownHost(ServiceError):
    """A service without keys is addressed by a name that is not its own."""

    problem: ClassVar[ProblemType] = ProblemType(
        "misdirected",
        "Unknown host",
        "A service without keys answers only to localhost, 127.0.0.1 and [::1]. For other host names, require keys.",
    )


class FeatureNotFound(ServiceError):
    """The report flags no feature with this id."""

    problem: ClassVar[ProblemType] = ProblemType(
        "feature_not_found", "Feature not found", "The report has no flagged feature with this id."
    )


class BatchNotFound(ServiceError):
    """The owner has no audit that was filed in this batch."""

    problem: ClassVar[ProblemType] = ProblemType(
        "batch_not_found", "Batch not found", "There is no batch with this id, or all of its audits were deleted."
    )


class FilesUnknown(ServiceError):
    """The report does not list the files of its models, so nothing can be attested of them."""

    problem: ClassVar[ProblemType] = ProblemType(
        "files_unknown",
        "Files not recorded",
        "The report was made before reports listed the files of their models. Audit the model again.",
    )


class NoSigningKey(ServiceError):
    """The operator has not given the service a key to sign with."""

    problem: ClassVar[ProblemType] = ProblemType(
        "no_signing_key",
        "No signing key",
        "This service signs nothing. Sign the statement with a key of yours, or have its operator set "
        "BACKDOOR_AUDIT_SIGNING_KEY_FILE.",
    )


class ArtifactNotFound(ServiceError):
    """The audit has no file or folder with this name."""

    problem: ClassVar[ProblemType] = ProblemType(
        "artifact_not_found", "Artifact not found", "The audit has no artifact or file with this name."
    )


class RangeNotSatisfiable(ServiceError):
    """The file ends before the requested part."""

    problem: ClassVar[ProblemType] = ProblemType(
        "range_not_satisfiable",
        "Range not satisfiable",
        "The range starts after the end of the file; `Content-Range` gives the file's size.",
    )

    def __init__(self, size: int) -> None:
        super().__init__(headers={"Content-Range": f"bytes */{size}"})


class NotReady(ServiceError):
    """A component that the service needs does not respond."""

    problem: ClassVar[ProblemType] = ProblemType("not_ready", "Not ready", "A component does not respond.")


class StartupError(ServiceError):
    """The service refuses to start, and says why."""

    problem: ClassVar[ProblemType] = INTERNAL
