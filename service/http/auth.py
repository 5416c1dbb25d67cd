"""Who the caller is, and what they may do.

Every call of the API except those of ``routes.health`` and ``routes.docs`` declares the scope that it needs::

    @router.get("/audits", dependencies=[Depends(requires("audits:read"))])
    def list_audits(owner: OwnerDep) -> AuditPage: ...

An application with a call that does not declare one is not built (:func:`check_scopes`).
"""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from starlette.concurrency import run_in_threadpool

from jobs.keys import SCOPES, KeyRecord, Scope
from service.dependencies import DependenciesDep
from service.errors import MissingScope, TooManyRequests, Unauthenticated
from service.http.rates import RateLimit

LOCAL_OWNER: Final = "local"
"""The owner of everything submitted without a key."""


@dataclass(frozen=True)
class Caller:
    """The caller. ``key_id`` is None without a key, which is accepted only on this machine's own addresses."""

    owner: str
    scopes: frozenset[Scope]
    key_id: str | None

    def may(self, scope: Scope) -> bool:
        """Whether this scope is granted; ``admin`` includes the others. No scope reads another owner's audits."""
        return scope in self.scopes or "admin" in self.scopes


LOCAL_CALLER: Final = Caller(LOCAL_OWNER, frozenset(SCOPES), None)


async def get_caller(request: Request, dependencies: DependenciesDep) -> Caller:
    """The owner of the request's key; without a key, if none is required, the local owner.

    Raises:
        Unauthenticated: a key is required and missing, or the one given is not valid.
        TooManyRequests: the key has reached its limit of requests per minute.
    """
    given = request.headers.getlist("authorization")
    if not given:
        if request.app.state.keys_required:
            raise Unauthenticated(given=False)
        return LOCAL_CALLER
    scheme, _, token = given[0].partition(" ")
    if len(given) > 1 or scheme.lower() != "bearer":
        raise Unauthenticated(given=True)
    record = await run_in_threadpool(dependencies.ledger.keys.check, token.strip())
    if record is None:
        raise Unauthenticated(given=True)
    return caller_of(request, record)


def caller_of(request: Request, record: KeyRecord) -> Caller:
    """The holder of this key; counts the request.

    Raises:
        TooManyRequests: the key has reached its limit.
    """
    request.state.key_id = record.id
    rates: RateLimit = request.app.state.rates
    wait_s = rates.wait_s(record.id)
    if wait_s:
        raise TooManyRequests(wait_s)
    return Caller(record.owner, record.scopes, record.id)


CallerDep = Annotated[Caller, Depends(get_caller)]


async def get_owner(caller: CallerDep) -> str:
    """The owner whose audits the caller sees."""
    return caller.owner


OwnerDep = Annotated[str, Depends(get_owner)]


@dataclass(frozen=True)
class Requires:
    """A dependency that admits callers with ``scope``."""

    scope: Scope

    async def __call__(self, caller: CallerDep) -> Caller:
        """The caller.

        Raises:
            Unauthenticated, MissingScope: as their names say.
        """
        if not caller.may(self.scope):
            raise MissingScope(self.scope)
        return caller


def requires(scope: Scope) -> Requires:
    """A dependency for a call that needs ``scope``."""
    return Requires(scope)


def calls(app: FastAPI) -> Iterator[tuple[str, frozenset[str], frozenset[str], list[Scope]]]:
    """Path, methods, tags and required scopes (sorted) of every call in the document of ``app``."""
    for route in iter_route_contexts(app.routes):
        dependant = getattr(route, "dependant", None)
        if dependant is None or route.path_format is None or not route.include_in_schema:
            continue
        scopes = sorted({one.call.scope for one in _flat(dependant) if isinstance(one.call, Requires)})
        yield route.path_format, frozenset(route.methods or ()), frozenset(route.tags), scopes


def check_scopes(app: FastAPI, open_tags: frozenset[str]) -> None:
    """Refuse an application with a call that needs no scope, unless it has one of ``open_tags``.

    Raises:
        RuntimeError: names the call.
    """
    for path, methods, tags, scopes in calls(app):
        if not scopes and not open_tags & tags:
            raise RuntimeError(f"{sorted(methods)} {path} needs no scope: give it dependencies=[Depends(requires(…))]")


def is_loopback(host: str) -> bool:
    """Whether ``host``, a name or an address, is one of this machine that no other machine can reach."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return False


def _flat(dependant: Dependant) -> Iterator[Dependant]:
    for one in dependant.dependencies:
        yield one
        yield from _flat(one)
