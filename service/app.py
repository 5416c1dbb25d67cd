"""Builds the application from calls, middleware and error handlers."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from jobs.errors import LedgerError
from models_store.sources.mlflow_registry import MlflowRegistry
from service.artifacts import routes as artifacts
from service.attestations import routes as attestations
from service.audits import event_routes as events
from service.audits import routes as audits
from service.audits.event_stream import Streams
from service.batches import routes as batches
from service.decisions import routes as decisions
from service.dependencies import Dependencies
from service.health import routes as health
from service.health.metrics import Metrics
from service.http import problems
from service.http.auth import check_scopes, is_loopback
from service.http.middleware import BodyLimitMiddleware, EdgeMiddleware, SlowBodyMiddleware
from service.http.public_url import PrefixMiddleware, PublicUrl
from service.http.rates import RateLimit
from service.http.same_origin import LoopbackMiddleware
from service.keys import routes as keys
from service.libraries import routes as libraries
from service.mlflow import routes as mlflow
from service.mlflow.tags import TagLoop
from service.models import routes as models
from service.models import upload_routes as uploads
from service.openapi_document import routes as docs
from service.openapi_document.document import DESCRIPTION, build
from service.pages import views
from service.reports import comparison_routes as comparisons
from service.reports import routes as reports
from service.settings import Settings
from service.version import API_VERSION
from service.webhooks import routes as webhooks
from service.webhooks.delivery import Sender
from service.webhooks.secrets import reseal
from service.webhooks.sender import DeliveryLoop
from service.webhooks.service import EXTRA_PER_MINUTE
from service.webhooks.trust import context_of

log = structlog.get_logger(__name__)

_WITH_SLASHES: Final = re.compile(r"\{(feature_id|path)\}")
"""Parameters that match the rest of a path, which an OpenAPI document cannot express."""


class Api(FastAPI):
    """FastAPI with our own OpenAPI document."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, built on first use."""
        if self.openapi_schema is None:
            self.openapi_schema = build(self)
        return self.openapi_schema

    def methods_of(self, path: str) -> list[str]:
        """The methods that ``path`` supports, sorted; a path without parameters comes before one that fits it too."""
        paths = self.openapi()["paths"]
        fitting = [path] if path in paths else [
            template for template in paths
            if compile_path(_WITH_SLASHES.sub(r"{\1:path}", template))[0].fullmatch(path)
        ]  # fmt: skip
        return sorted(method.upper() for template in fitting for method in paths[template])


_OPEN: Final = frozenset({"health", "mlflow"})
"""Tags of calls that need no key; MLflow's events are signed instead."""


def create_app(settings: Settings, *, keys_required: bool | None = None) -> FastAPI:
    """Return the application for ``settings``. Ledger and broker are opened when it starts, not before.

    ``keys_required`` says whether callers without a key are refused; by default, this depends on the settings' host.
    """
    if keys_required is None:
        keys_required = settings.require_keys or not is_loopback(settings.host)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        dependencies = await run_in_threadpool(Dependencies.open, settings)
        app.state.dependencies = dependencies
        await run_in_threadpool(_encrypt_secrets, dependencies)
        trust = context_of(settings.webhook_ca_file)
        sender = Sender(settings.webhook_networks, settings.webhook_timeout_s, trust, dependencies.secrets)
        deliveries = DeliveryLoop(dependencies.ledger.webhooks, sender, settings.webhook_retry_s)
        deliveries.start()
        tags = _tag_loop(settings, dependencies)
        try:
            yield
        finally:
            if tags is not None:
                await run_in_threadpool(tags.stop)
            await run_in_threadpool(deliveries.stop)
            await run_in_threadpool(dependencies.close)

    app = Api(
        title="Backdoor Audit",
        version=API_VERSION,
        description=DESCRIPTION,
        # The framework's interactive pages load scripts from elsewhere, so `/docs` is our own.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        generate_unique_id_function=_operation_id,
    )
    app.state.metrics = Metrics()
    app.state.keys_required = keys_required
    app.state.public = public = None if settings.public_url is None else PublicUrl.of(settings.public_url)
    app.state.rates = RateLimit(settings.requests_per_minute)
    app.state.extra_messages = RateLimit(EXTRA_PER_MINUTE)
    app.state.streams = Streams(settings.streams_per_owner)
    # The last one added is the outermost.
    app.add_middleware(BodyLimitMiddleware)
    app.add_middleware(SlowBodyMiddleware, patience_s=settings.client_patience_s)
    if not keys_required:
        app.add_middleware(LoopbackMiddleware, public_origin=None if public is None else public.origin)
    app.add_middleware(EdgeMiddleware, metrics=app.state.metrics)
    if public is not None and public.prefix:
        app.add_middleware(PrefixMiddleware, prefix=public.prefix)
    for root in problems.ROOTS:
        app.add_exception_handler(root, problems.on_room_error)
    app.add_exception_handler(HTTPException, problems.on_http_exception)
    app.add_exception_handler(RequestValidationError, problems.on_invalid_request)
    for module in (
        batches,
        audits,
        events,
        comparisons,
        reports,
        decisions,
        attestations,
        artifacts,
        models,
        uploads,
        libraries,
        webhooks,
        mlflow,
        keys,
        health,
        docs,
    ):
        app.include_router(module.router)
    app.include_router(views.router)
    check_scopes(app, _OPEN)
    return app


def _encrypt_secrets(dependencies: Dependencies) -> None:
    """Bring the signing secrets of webhooks under the first key; what is not done now, the next start does."""
    try:
        reseal(dependencies.ledger.webhooks, dependencies.secrets)
    except LedgerError as error:
        log.warning("webhook.secrets_waiting", error=type(error).__name__)


def _tag_loop(settings: Settings, dependencies: Dependencies) -> TagLoop | None:
    """Start writing verdicts back to the registry, if the operator has enabled this."""
    registry = MlflowRegistry.from_settings(settings)
    if not settings.mlflow_tags or registry is None:
        return None
    loop = TagLoop(
        dependencies.ledger.tags,
        registry,
        dependencies.models.fetched_digest,
        settings.webhook_retry_s,
        settings.public_url,
    )
    loop.start()
    return loop


def _operation_id(route: APIRoute) -> str:
    return route.name
