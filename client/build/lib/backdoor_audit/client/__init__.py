"""The HTTP client of the service, asynchronous and blocking; the blocking one is generated (``tools.unasync``)."""

from typing import Final

DEFAULT_URL: Final = "http://127.0.0.1:8321"
"""Where ``backdoor-audit serve`` listens by default."""
