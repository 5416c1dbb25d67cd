"""The documents that are committed in ``openapi/``: the API's, and the JSON schemas of reports and attestations."""

import json
from pathlib import Path
from typing import Any, Final

from service.app import create_app
from service.attestations.schema import attestation_schema
from service.openapi_document.report_schema import report_schema
from service.settings import Settings

FOLDER: Final = Path(__file__).resolve().parents[2] / "openapi"
DOCUMENT: Final = "openapi.json"
REPORT_SCHEMA: Final = "report.schema.json"
ATTESTATION_SCHEMA: Final = "attestation.schema.json"
LINE: Final = 120
"""Maximum length of a line that contains a whole object or list."""


def texts() -> dict[str, str]:
    """The documents generated from the code, by file name."""
    # Nothing is opened: the document does not depend on where the application keeps its data.
    app = create_app(Settings(data_dir=Path("data"), models_root=Path("models")))
    return {DOCUMENT: render(app.openapi()), REPORT_SCHEMA: render(report_schema())} | {
        ATTESTATION_SCHEMA: render(attestation_schema())
    }


def render(document: dict[str, Any]) -> str:
    """The text of a committed document: a change of one field shows as a change of one line."""
    return _lines(document, "", "") + "\n"


def _lines(value: Any, indent: str, before: str) -> str:
    """A JSON value on one line if it fits behind ``before``, otherwise with a line for each of its parts."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or not value or len(indent) + len(before) + len(line) < LINE:
        return f"{before}{line}"
    inner = indent + " "
    if isinstance(value, dict):
        parts = [_lines(part, inner, f"{json.dumps(key, ensure_ascii=False)}: ") for key, part in value.items()]
    else:
        parts = [_lines(part, inner, "") for part in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{before}{opening}\n{inner}" + f",\n{inner}".join(parts) + f"\n{indent}{closing}"


def write() -> None:
    """Write the documents."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


def outdated() -> list[str]:
    """Names of the documents that are missing or differ from the code."""

    def differs(path: Path, text: str) -> bool:
        return not path.exists() or path.read_text(encoding="utf-8") != text

    return [name for name, text in texts().items() if differs(FOLDER / name, text)]
