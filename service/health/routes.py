"""For supervisors and monitoring: liveness, readiness, metrics."""

from fastapi import APIRouter, Request, Response

from backdoor_audit.contract.report.audit_report import METHOD_VERSION
from service.dependencies import DependenciesDep
from service.errors import NotReady
from service.health import metrics, service
from service.health.schemas import Alive, Ready
from service.openapi_document.fragments import answer, described, named

router = APIRouter(tags=["health"])


@router.get(
    "/livez",
    summary="Check liveness",
    response_model=Alive,
    responses=described({200: answer("The process responds.", "alive")}),
)
async def livez() -> Alive:
    """Answers without contacting any other component."""
    return Alive(status="alive", method_version=METHOD_VERSION)


@router.get(
    "/readyz",
    summary="Check readiness",
    response_model=Ready,
    responses=described({200: answer("Ledger, broker and models root respond.", "ready")}, NotReady),
)
def readyz(dependencies: DependenciesDep) -> Ready:
    """Checks ledger, broker and models root; 503 names the component that does not respond."""
    service.check_ready(dependencies)
    return Ready(status="ready")


@router.get(
    "/metrics",
    summary="Prometheus metrics",
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
    """Queue depth by status, age of the oldest queued audit, request counts and durations."""
    return Response(request.app.state.metrics.render(dependencies), media_type=metrics.CONTENT_TYPE)
