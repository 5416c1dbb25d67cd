"""Calls that list the models that can be audited."""

from fastapi import APIRouter, Depends

from service.dependencies import DependenciesDep
from service.http.auth import get_caller, requires
from service.http.queries import refuse_unknown
from service.models.schemas import ModelList, ModelOut
from service.openapi_document.fragments import answer, described

router = APIRouter(tags=["models"], dependencies=[Depends(get_caller), Depends(refuse_unknown)])


@router.get(
    "/models",
    summary="List models",
    dependencies=[Depends(requires("audits:read"))],
    response_model=ModelList,
    responses=described({200: answer("The checkpoints in the store and under the models root.", "models")}, 422, 503),
)
def list_models(dependencies: DependenciesDep) -> ModelList:
    """The checkpoints under the models root and in the store; a rejected one says why."""
    return ModelList(
        models=tuple(
            ModelOut(
                reference=model.reference,
                name=model.name,
                kind=model.kind,
                architecture=model.architecture,
                size_bytes=model.size_bytes,
                digest=model.digest,
                refused=model.refused,
            )
            for model in dependencies.models.list()
        )
    )
