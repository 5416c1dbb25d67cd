"""The API's version: in the OpenAPI document and in the header of every answer."""

from typing import Final

API_VERSION: Final = "0.1.0"
VERSION_HEADER: Final = "Backdoor-Audit-Version"
