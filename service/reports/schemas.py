"""Reports over HTTP, besides the report itself, whose schema is ``backdoor_audit.contract.report.audit_report``."""

from backdoor_audit.contract.report.features import Feature
from service.http.paging import NextPageToken
from service.http.schemas import Out


class FeaturePage(Out):
    """Flagged features, in the report's order."""

    features: tuple[Feature, ...]
    next_page_token: NextPageToken
