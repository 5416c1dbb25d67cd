"""For supervisors: is it alive, is it ready, how is it doing."""

import os
from collections.abc import Callable

from fastapi import APIRouter, Request, Response

from backdoor_audit.contract.report import METHOD_VERSION
from jobs.errors import LedgerError
from service.dependencies import Dependencies, DependenciesDep
from service.errors import ErrorItem, NotReady
from service.health import metrics
from service.health.schemas import Alive, Ready
from service.openapi_document.fragments import answer, described, named
from worker.errors import WorkerError

router = APIRouter(tags=["health"])


@router.get(
    "/livez",
    summary="Is the process alive?",
    response_model=Alive,
    responses=described({200: answer("It is.", "alive")}),
)
async def livez() -> Alive:
    """Answers without asking any other part."""
    return Alive(status="alive", method_version=METHOD_VERSION)


@router.get(
    "/readyz",
    summary="Can it take audits?",
    response_model=Ready,
    responses=described({200: answer("Ledger, broker and models root answer.", "ready")}, NotReady),
)
def readyz(dependencies: DependenciesDep) -> Ready:
    """Asks ledger, broker and models root; 503 names the part that does not answer."""
    checks: tuple[tuple[str, Callable[[Dependencies], None]], ...] = (
        ("ledger", _check_ledger),
        ("broker", _check_broker),
        ("models_root", _check_models_root),
    )
    items = []
    for part, check in checks:
        try:
            check(dependencies)
        except (LedgerError, WorkerError, OSError) as error:
            items.append(ErrorItem("service", f"#/{part}", f"does not answer ({type(error).__name__})"))
    if items:
        raise NotReady(errors=items)
    return Ready(status="ready")


@router.get(
    "/metrics",
    summary="Numbers for Prometheus",
    response_class=Response,
    responses=described(
        {
            200: {
                "description": "Prometheus text format.",
                "content": {"text/plain": {"schema": {"type": "string"}, "examples": named("metrics")}},
            }
        }
    ),
)
def get_metrics(request: Request, dependencies: DependenciesDep) -> Response:
    """Queue depth by status, age of the oldest queued audit, requests and their seconds."""
    return Response(request.app.state.metrics.render(dependencies), media_type=metrics.CONTENT_TYPE)


def _check_ledger(dependencies: Dependencies) -> None:
    dependencies.ledger.ping()
    if not dependencies.ledger.schema_is_current():
        raise LedgerError("schema is not current")


def _check_broker(dependencies: Dependencies) -> None:
    dependencies.dispatcher.ping()


def _check_models_root(dependencies: Dependencies) -> None:
    with os.scandir(dependencies.settings.models_root):
        pass
