"""Reports over HTTP, beside the report itself, whose schema is ``backdoor_audit.contract.report.audit_report``."""

from pydantic import Field

from backdoor_audit.contract.report.features import Feature
from service.http.schemas import Out, absent


class FeaturePage(Out):
    """Flagged features, in the report's order."""

    features: tuple[Feature, ...]
    next_page_token: str | None = Field(exclude_if=absent, description="Absent on the last page.")
