"""Certificate authorities trusted for webhook receivers."""

import ssl
from pathlib import Path

import httpcore

from service.errors import StartupError


def context_of(ca_file: Path | None) -> ssl.SSLContext:
    """Checks certificates and names, using the public authorities and those in ``ca_file``.

    Raises:
        StartupError: the file cannot be read, or contains no certificate.
    """
    context: ssl.SSLContext = httpcore.default_ssl_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # also raised for a file without certificates
            raise StartupError(
                f"BACKDOOR_AUDIT_WEBHOOK_CA_FILE: it contains no certificates in PEM format ({type(error).__name__})"
            ) from error
    return context
