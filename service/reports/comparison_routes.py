"""The call that compares two reports."""

from typing import Annotated, Any, Self

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from backdoor_audit.contract.ids import AUDIT_ID
from service.audits import examples
from service.dependencies import DependenciesDep
from service.http.auth import OwnerDep, get_caller, requires
from service.http.queries import refuse_unknown
from service.http.schemas import Out
from service.openapi_document.fragments import answer, described
from service.reports.comparison import ComparedField, comparable_question, compared

router = APIRouter(tags=["reports"], dependencies=[Depends(get_caller), Depends(refuse_unknown)])


class ComparedFieldOut(Out):
    """One value of both reports."""

    name: str = Field(description="Path of the value in a report.")
    left: Any
    right: Any
    differs: bool

    @classmethod
    def of(cls, field: ComparedField) -> Self:
        """The outward form of ``field``."""
        return cls(name=field.name, left=field.left, right=field.right, differs=field.differs)


class ComparisonOut(Out):
    """Two reports side by side."""

    left: str = Field(description="Id of the first audit.")
    right: str = Field(description="Id of the second audit.")
    comparable: bool = Field(
        description="Whether both asked the same question of the same base; otherwise numbers are not comparable."
    )
    fields: tuple[ComparedFieldOut, ...]


def _audit(which: str) -> Any:
    return Query(pattern=AUDIT_ID, description=f"Id of the {which} audit.", examples=[examples.AUDIT_ID])


@router.get(
    "/comparison",
    summary="Compare two reports",
    dependencies=[Depends(requires("audits:read"))],
    response_model=ComparisonOut,
    responses=described({200: answer("Values of both reports.", "comparison")}, 404, 409, 422, 503),
)
def compare_reports(
    dependencies: DependenciesDep,
    owner: OwnerDep,
    left: Annotated[str, _audit("first")],
    right: Annotated[str, _audit("second")],
) -> ComparisonOut:
    """The values that people compare: verdict, gates, effect, features, digests. Both audits must have a report."""
    first, second = (dependencies.ledger.report(each, owner=owner) for each in (left, right))
    return ComparisonOut(
        left=left,
        right=right,
        comparable=comparable_question(first, second),
        fields=tuple(map(ComparedFieldOut.of, compared(first, second))),
    )
