"""Examples of statements, attestations and bills of materials for the OpenAPI document."""

import base64
import json
from typing import Any, Final

from backdoor_audit.contract.attestation import STATEMENT_MEDIA_TYPE
from service.attestations.bom import bom_of
from service.attestations.statement import statement_of
from service.openapi_document.report_examples import SUBJECT

STATEMENT: Final = statement_of(SUBJECT)
_PAYLOAD: Final = base64.b64encode(STATEMENT.encoded()).decode()

ANSWERS: Final[dict[str, Any]] = {
    "statement": {"summary": "To be signed", "value": json.loads(STATEMENT.encoded())},
    "attestation": {
        "summary": "Signed; the payload is the statement in base64, here only its beginning",
        "value": {
            "payload": _PAYLOAD[:76],
            "payloadType": STATEMENT_MEDIA_TYPE,
            "signatures": [{"keyid": "6d1f…", "sig": "MEUCIQ…"}],
        },
    },
    "bom": {"summary": "An adapter and its base", "value": json.loads(bom_of(SUBJECT))},
}
