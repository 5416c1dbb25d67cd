"""Whose certificates webhooks' receivers may have."""

import ssl
from pathlib import Path

import httpcore

from service.errors import StartupError


def context_of(ca_file: Path | None) -> ssl.SSLContext:
    """Checks certificates and names, against the authorities that everybody trusts and those in ``ca_file``.

    Raises:
        StartupError: the file cannot be read, or holds no certificate.
    """
    context: ssl.SSLContext = httpcore.default_ssl_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # which a file without certificates is, too
            raise StartupError(
                f"BACKDOOR_AUDIT_WEBHOOK_CA_FILE: it holds no certificates in PEM form ({type(error).__name__})"
            ) from error
    return context
